"""The job types that processors announced: kept in memory, so that jobs are accepted while Redis is down."""

import asyncio
import difflib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

import pydantic_core
import structlog

from milepost_contracts.clock import now
from milepost_contracts.http.problems import ProblemDetail
from milepost_contracts.messages.worker_events import HEARTBEAT_INTERVAL, Heartbeat, JobType
from milepost_contracts.secret_params import MASK, SecretParams, Secrets, place_of
from milepost_gateway.core.params_schema import MAX_ERRORS, MAX_STEPS, quick_validator
from milepost_gateway.errors import InvalidParams, NotAccepted, StoreUnavailable, UnknownJobType
from milepost_gateway.ports.params_validator import ParamsValidator
from milepost_gateway.ports.worker_store import WorkerStore

log = structlog.get_logger(__name__)

REFRESH_INTERVAL = timedelta(seconds=2)
UNSERVED_AFTER = 15.0
"""Seconds without a live processor after which a queue counts as not served; heartbeats come every few seconds."""
ALL_ANNOUNCED_AFTER = 2 * HEARTBEAT_INTERVAL
"""Every live processor has named its types in a heartbeat once the store has recorded announcements for this long."""
MAX_SUGGESTIONS = 3
"""Number of known names in the error for an unknown type."""
MAX_COMPARED = 200
"""Number of known names that an unknown one is compared with."""


@dataclass(frozen=True)
class KnownType:
    """An announced type, and how to check params against its schema."""

    announced: JobType
    validator: ParamsValidator
    #: The schema as JSON.
    schema: bytes
    #: Checks small params at once, with its steps for each byte; nothing if the schema may take long for small ones.
    quick: tuple[Any, int] | None
    secret_params: SecretParams

    @classmethod
    def of(cls, announced: JobType, validator: ParamsValidator, secret_params: SecretParams) -> Self:
        """Return a type; whether its schema can be used is known only if it is quick."""
        schema = pydantic_core.to_json(announced.params_schema)
        return cls(announced, validator, schema, quick_validator(schema), secret_params)

    async def check(self, params: Mapping[str, Any], as_json: bytes, *, tenant: str, until: float) -> None:
        """Return if the params, also given as JSON, match the schema.

        Raises:
            InvalidParams: They don't match; carries up to 20 validation errors, or one if finding them takes too long.
                Or they take too long to check.
            NotAccepted: They could not be checked until this time of the event loop.
        """
        valid: bool | None = None
        if self.quick is not None:
            quick, steps = self.quick
            if steps * len(as_json) <= MAX_STEPS:
                valid = quick.is_valid(params)
        if valid:
            return
        verdict = await self.validator.validate(self.schema, as_json, tenant=tenant, until=until)
        valid = verdict.valid if valid is None else valid
        if valid:
            return
        if valid is None and not verdict.in_time:
            raise NotAccepted("the params could not be checked in time")
        raise InvalidParams(self._without_secrets(params, verdict.errors) or [self._unlocated(valid)])

    def _unlocated(self, valid: bool | None) -> ProblemDetail:
        """Return the error for params whose validation errors were not found."""
        if valid is None:
            detail = f"they take too long to check against the schema of {self.announced.type}"
        else:
            detail = f"they don't match the schema of {self.announced.type}; finding out where takes too long"
        return ProblemDetail(pointer="/params", detail=detail)

    def split(self, params: Mapping[str, Any]) -> tuple[dict[str, Any], Secrets]:
        """Return the params as they are shown, and the secrets among them.

        Raises:
            InvalidParams: A secret is the mask: the params are those that a job has shown. Carries up to 20 of them.
        """
        shown, secrets = self.secret_params.split(params)
        masks = [pointer for pointer, value in secrets.items() if value == MASK]
        if masks:
            detail = "it is secret, and this is only its mask: give the secret itself"
            raise InvalidParams(
                [ProblemDetail(pointer=f"/params{pointer}", detail=detail) for pointer in masks[:MAX_ERRORS]]
            )
        return shown, secrets

    def _without_secrets(self, params: Mapping[str, Any], errors: Sequence[ProblemDetail]) -> list[ProblemDetail]:
        """Return the errors without the names that occur inside of secrets."""
        secrets = {f"/params{pointer}": value for pointer, value in self.secret_params.split(params)[1].items()}
        shown = []
        for error in errors:
            place = place_of(error.pointer, secrets)
            if place is not None and isinstance(secrets[place], dict | list):
                error = ProblemDetail(pointer=place, detail="the value does not match the schema")  # noqa: PLW2901
            shown.append(error)
        return shown


@dataclass
class KnownTypes:
    """The announced job types. Reads the worker store every two seconds, and at once for an unknown name."""

    store: WorkerStore
    validator: ParamsValidator
    _types: dict[str, KnownType] = field(default_factory=dict)
    #: Announced types whose schema can't be used.
    _unusable: dict[str, JobType] = field(default_factory=dict)
    #: So that requests that ask at the same time add a type once.
    _adding: asyncio.Lock = field(default_factory=asyncio.Lock)
    _started_at: float = field(default_factory=time.monotonic)
    _read_at: float = float("-inf")
    #: When a live processor last served each queue.
    _served_at: dict[str, float] = field(default_factory=dict)
    #: Seconds that jobs of a queue wait at present, by its processors' heartbeats.
    _queue_wait: dict[str, float] = field(default_factory=dict)

    async def refresh(self) -> None:
        """Read the announced job types.

        Raises:
            StoreUnavailable: The store does not answer; the known types are kept.
        """
        for announced in await self.store.job_types():  # a type that the store has lost is still accepted
            if self._is_new(announced):
                await self._add(announced)

    def _is_new(self, announced: JobType) -> bool:
        known = self._types.get(announced.type)
        return announced not in (known and known.announced, self._unusable.get(announced.type))

    async def _add(self, announced: JobType) -> None:
        """Add a type, or its new version, if its schema can be used."""
        async with self._adding:
            if not self._is_new(announced):
                return
            # A thread, as this may take longer than the loop may be held.
            secret_params = await asyncio.to_thread(SecretParams, announced.params_schema)
            known = KnownType.of(announced, self.validator, secret_params)
            if known.quick is None:
                self._unusable[announced.type] = announced  # for the moment, so that it is checked once
        if known.quick is None and (fault := await self.validator.find_fault(known.schema)) is not None:
            log.warning("schema_unusable", type=announced.type, error=fault)
            return
        self._unusable.pop(announced.type, None)
        self._types[announced.type] = known

    def may_have_secrets(self, name: object) -> bool:
        """Whether a job of this type may have secret params, as far as is known without a look into the store."""
        known = self._types.get(name) if isinstance(name, str) else None
        return known is None or known.secret_params.exist

    def serves(self, queue: str) -> bool:
        """Whether a live processor served this queue lately; true if the store could not be read."""
        at = time.monotonic()
        if at - self._read_at > UNSERVED_AFTER:
            return True
        return at - self._served_at.get(queue, self._started_at) < UNSERVED_AFTER

    async def keep_fresh(self) -> None:
        """Refresh until cancelled."""
        while True:
            try:
                await self.refresh()
                await self.processors()
            except StoreUnavailable as error:
                log.warning("job_types_not_refreshed", error=str(error))
            await asyncio.sleep(REFRESH_INTERVAL.total_seconds())

    async def find(self, name: str) -> KnownType:
        """Return the type.

        Raises:
            UnknownJobType: No processor has announced it.
            StoreUnavailable: It is not known, and the store can't be read now, or has lost what was announced before.
        """
        if name not in self._types:
            await self.refresh()
        found = self._types.get(name)
        if found is None:
            since = await self.store.types_since()
            if since is None or now() - since < ALL_ANNOUNCED_AFTER:
                seconds = ALL_ANNOUNCED_AFTER.total_seconds()
                raise StoreUnavailable(
                    f"no processor has announced {name!r} yet; {seconds:g} seconds after a start, all of them have"
                )
            if any(name in heartbeat.types for heartbeat in await self.processors()):
                raise StoreUnavailable(f"a processor serves {name!r}, and will announce it within seconds")
            raise UnknownJobType(name, self._near(name), known=len(self._types))
        return found

    def _near(self, name: str) -> Sequence[str]:
        """Return similar known names, or some others."""
        known = sorted(self._types)
        if len(known) > MAX_COMPARED:
            known = [one for one in known if one.startswith(name[:1])][:MAX_COMPARED] or known[:MAX_COMPARED]
        return difflib.get_close_matches(name, known, n=MAX_SUGGESTIONS, cutoff=0.5) or known[:MAX_SUGGESTIONS]

    async def all(self) -> Sequence[JobType]:
        """Return all types, by name."""
        await self.refresh()
        return [self._types[name].announced for name in sorted(self._types)]

    async def processors(self) -> Sequence[Heartbeat]:
        """Return the live processors, and record which queues they serve and how long jobs wait there.

        A type that one of them names and that is not known yet is read at once: Redis may be down in a moment.
        """
        heartbeats = await self.store.processors()
        self._read_at = time.monotonic()
        self._served_at |= {queue: self._read_at for heartbeat in heartbeats for queue in heartbeat.queues}
        self._queue_wait = _queue_wait(heartbeats)
        if not self._types.keys() >= {name for heartbeat in heartbeats for name in heartbeat.types}:
            await self.refresh()
        return heartbeats

    def usual_wait(self, queue: str | None) -> float | None:
        """Return the seconds that jobs of a queue have waited lately for their start, if known."""
        return None if queue is None else self._queue_wait.get(queue)


def _queue_wait(heartbeats: Sequence[Heartbeat]) -> dict[str, float]:
    """Return the seconds that jobs wait at present, by queue: 0 if one of its processors has an idle thread."""
    by_queue: dict[str, list[float]] = defaultdict(list)
    idle = {
        queue for heartbeat in heartbeats if len(heartbeat.running) < heartbeat.threads for queue in heartbeat.queues
    }
    for heartbeat in heartbeats:
        for queue, seconds in heartbeat.queue_wait.items():
            by_queue[queue].append(0.0 if queue in idle else seconds)
    return {queue: sum(seconds) / len(seconds) for queue, seconds in by_queue.items()}
