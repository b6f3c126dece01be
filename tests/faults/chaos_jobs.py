"""Jobs that misbehave on purpose, and record their starts and ends: one line each, appended to one file."""

import asyncio
import ctypes
import json
import os
import threading
import time
from datetime import timedelta

from pydantic import BaseModel

from milepost import Reject, RetryLater, Run, job

LEDGER = "CHAOS_LEDGER"
FIXED = os.environ.get(LEDGER, "") + ".fixed"
"""A file; once it exists, `kill-until-fixed` no longer kills its worker."""


class Work(BaseModel):
    #: Identifies this job in the ledger, even if the client never received its id.
    nonce: str
    milliseconds: int = 0
    behave: str = "well"


class Done(BaseModel):
    nonce: str


def note(run: Run, params: Work, what: str) -> None:
    """Append a line; one write, so that lines of several processes never mix."""
    line = {
        "job_id": run.job_id,
        "nonce": params.nonce,
        "token": run.token,
        "what": what,
        "behave": params.behave,
        "at": time.time(),
    }
    descriptor = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def pause(seconds: float) -> None:
    """Sleep; libfaketime makes `time.sleep` fail."""
    threading.Event().wait(seconds)


def work_on(params: Work, run: Run) -> None:
    """Report progress every 50 ms, as long as the job takes."""
    steps = max(1, params.milliseconds // 50)
    for step in range(steps):
        pause(params.milliseconds / 1000 / steps)
        run.progress(step + 1, steps)


def resume(params: Work, run: Run) -> None:
    """Save after each step of 50 ms, and continue where an interrupted attempt stopped."""
    if run.saved_state is not None:
        note(run, params, "resume")
    steps = max(1, params.milliseconds // 50)
    for step in range(run.saved_state or 0, steps):
        pause(0.05)
        run.save(step + 1)
        run.progress(step + 1, steps)


def leak() -> None:
    """Allocate memory until this process is killed; 2 GB at most."""
    hoard = []
    for _ in range(100):
        hoard.append(b"x" * 20_000_000)
        time.sleep(0.05)
    raise MemoryError(f"this process was not killed although it holds {len(hoard) * 20} MB")


@job("chaos", retries=1, backoff=timedelta(seconds=1), max_runtime=timedelta(seconds=60))
def chaos(params: Work, run: Run) -> Done:
    """Do some work, and behave as requested."""
    note(run, params, "start")
    if params.behave == "kill" or (params.behave == "kill-until-fixed" and not os.path.exists(FIXED)):  # noqa: PTH110
        os._exit(9)
    if params.behave == "leak":
        leak()
    if params.behave == "later" and run.saved_state is None:
        run.save("asked")
        raise RetryLater(after=timedelta(seconds=1, milliseconds=params.milliseconds), reason="not yet")
    if params.behave == "deaf":
        pause(params.milliseconds / 1000)
    elif params.behave == "hold-interpreter":
        # Unlike time.sleep, this keeps the interpreter's lock: no other thread runs meanwhile.
        ctypes.PyDLL(None).usleep(params.milliseconds * 1000)
    elif params.behave == "resume":
        resume(params, run)
    elif params.behave != "later":
        work_on(params, run)
    if params.behave == "raise-always":
        raise ValueError("as requested")
    if params.behave == "raise-once" and run.saved_state is None:
        run.save("raised")
        raise ValueError("as requested, once")
    if params.behave == "reject":
        raise Reject("it is not worth it")
    note(run, params, "finish")
    return Done(nonce=params.nonce)


@job("stubborn", max_runtime=timedelta(seconds=3))
def stubborn(params: Work, run: Run) -> Done:
    """Never check for a cancel or a time-out."""
    note(run, params, "start")
    ends = time.monotonic() + params.milliseconds / 1000
    while time.monotonic() < ends:
        time.sleep(0.01)
    note(run, params, "finish")
    return Done(nonce=params.nonce)


@job("stubborn-async", max_runtime=timedelta(seconds=3))
async def stubborn_async(params: Work, run: Run) -> Done:
    """Like `stubborn`, asynchronously."""
    note(run, params, "start")
    await asyncio.sleep(params.milliseconds / 1000)
    note(run, params, "finish")
    return Done(nonce=params.nonce)


@job("patient")
def patient(params: Work, run: Run) -> list[int]:
    """Count in steps of ten milliseconds, and continue where an interrupted attempt stopped."""
    note(run, params, "start")
    begun_at = run.saved_state or 0
    steps = params.milliseconds // 10
    for step in range(begun_at, steps):
        time.sleep(0.01)
        run.save(step + 1)
        run.progress(step + 1, steps)
    note(run, params, "finish")
    return [begun_at, steps]
