"""The SDK with a complete stack, and the command line in a terminal."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from sdk_suite import SdkSuite

from milepost_client import AsyncClient, Submission

BIN = Path(sys.executable).parent


@pytest.fixture
def tag():
    return uuid4().hex


@pytest.fixture
def endless():
    return "count", {"steps": 100_000, "delay": 0.05}


@pytest.fixture
def failing():
    return "digest-files", {}


class TestWholeStack(SdkSuite):
    pass


async def test_the_asynchronous_client_works_with_a_stack(url):
    """With `await` and `async for`, and many calls at once."""
    async with AsyncClient(url) as client:
        handles = await asyncio.gather(*(client.submit("count", {"steps": n, "delay": 0.01}) for n in range(5)))
        assert [{"counted": n} for n in range(5)] == await asyncio.gather(*(handle.result() for handle in handles))
        last = [one async for one in (await client.submit("count", {"steps": 2})).watch()][-1]
        assert {"counted": 2} == last.result
        group = await client.submit_many([Submission(type="noop")] * 3)
        assert (await group.wait(timeout=30)).done


def test_the_progress_bar_goes_to_stderr_and_the_data_to_stdout(url):
    """The bar is drawn if standard error is a terminal; standard output has only the JSON."""
    terminal, terminal_end = pty.openpty()
    command = [BIN / "milepost", "submit", "count", "steps=5", "delay=0.5", "--watch", "--json", "--url", url]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal_end, env=environment) as process:
        os.close(terminal_end)
        shown = b""
        with suppress(OSError):  # raised once the other end is closed
            while piece := os.read(terminal, 65_536):
                shown += piece
        os.close(terminal)
        document = json.load(process.stdout)
    assert (0, "succeeded") == (process.returncode, document["status"])
    assert {"━", "running", "100%"} <= {word for word in ("━", "running", "100%") if word in shown.decode()}
