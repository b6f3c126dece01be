"""Validates params in a process of its own, which the kernel ends at its limits; the next validation starts another."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from weakref import WeakValueDictionary

import structlog

from milepost_contracts.http.problems import ProblemDetail
from milepost_gateway.ports.params_validator import Verdict

log = structlog.get_logger(__name__)

PROGRAM = "milepost_gateway.adapters.validator_process"
FAULT_TIMEOUT = 10.0
"""Seconds for the check of a schema, with its wait."""
MAX_SCHEMAS = 500
"""Schemas that one process keeps."""
MAX_LINE = 1024 * 1024
"""Maximum bytes of an answer's line."""
AT_A_LIMIT = {-signal.SIGPROF, -signal.SIGABRT, -signal.SIGSEGV}
"""Exit codes after too much processor time, memory, and stack."""


class _TooCostly(Exception):  # noqa: N818 - named as the condition
    """The process has ended at one of its limits."""


class _Unavailable(Exception):  # noqa: N818
    """The process can't be started, or was ended from outside."""


class ProcessValidator:
    """Implements `ports.params_validator.ParamsValidator`."""

    def __init__(self) -> None:
        self._process: Process | None = None
        #: The numbers by which the process knows schemas.
        self._numbers: dict[bytes, int] = {}
        self._free = asyncio.Lock()
        #: One lock for each tenant: asyncio's are fair, so that tenants take turns.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def find_fault(self, schema: bytes) -> str | None:
        try:
            async with asyncio.timeout(FAULT_TIMEOUT), self._asking():
                fault: str | None = (await self._ask(schema, None))["fault"]
                return fault
        except _TooCostly:
            return "it takes more time or memory than there is for a schema"
        except (_Unavailable, TimeoutError):
            return None

    async def validate(self, schema: bytes, params: bytes, *, tenant: str, until: float) -> Verdict:
        valid: bool | None = None
        turn = self._turns.setdefault(tenant, asyncio.Lock())
        try:
            async with asyncio.timeout_at(until), turn, self._asking():
                valid = await self._ask(schema, params)
                errors = () if valid else await self._answer()
        except _TooCostly:
            return Verdict(valid=valid)
        except (_Unavailable, TimeoutError):
            return Verdict(valid=valid, in_time=False)
        found = tuple(ProblemDetail(pointer=pointer, detail=text) for pointer, text in errors)
        return Verdict(valid=valid, errors=found)

    async def close(self) -> None:
        """End the process."""
        process, self._process, self._numbers = self._process, None, {}
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Have the process to oneself; it is ended if it has not answered completely."""
        async with self._free:
            try:
                yield
            except BaseException:
                await asyncio.shield(self.close())
                raise

    async def _ask(self, schema: bytes, params: bytes | None) -> Any:
        process = self._process
        if process is None or process.returncode is not None or len(self._numbers) >= MAX_SCHEMAS:
            await self.close()
            process = self._process = await _start()
        new = schema not in self._numbers
        number = self._numbers.setdefault(schema, len(self._numbers))
        parts = [b'{"number":%d' % number]
        if new:
            parts.append(b'"schema":' + schema)
        if params is not None:
            parts.append(b'"params":' + params)
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        try:
            process.stdin.write(b",".join(parts) + b"}\n")
        except (OSError, RuntimeError) as error:  # it has ended; uvloop raises RuntimeError
            raise _Unavailable from error
        answer = await self._answer()
        if params is not None and isinstance(answer, dict):  # the schema could not be checked when it was announced
            raise _TooCostly
        return answer

    async def _answer(self) -> Any:
        assert self._process is not None  # noqa: S101 - it was asked
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            code = await self._process.wait()
            log.warning("params_validator_ended", exit_code=code)
            raise _TooCostly if code in AT_A_LIMIT else _Unavailable
        return json.loads(line)


async def _start() -> Process:
    """Start the process, without the gateway's secrets."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILEPOST_")}
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", PROGRAM,
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, limit=MAX_LINE, env=environment, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        log.warning("params_validator_not_started", error=str(error))
        raise _Unavailable from error
