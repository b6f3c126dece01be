"""Handlers that fail, beside the well-behaved ones of `milepost_basics`: what retries and dead letters are about."""

import os
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from milepost import Run, job


class CallParams(BaseModel):
    #: How many attempts get no answer.
    refusals: int


class Answer(BaseModel):
    answered_at_attempt: int


@job("call-service", retries=2, backoff=timedelta(seconds=1))
def call_service(params: CallParams, run: Run) -> Answer:
    """Call a service that does not always answer."""
    attempt = (run.saved_state or 0) + 1
    run.save(attempt)
    if attempt <= params.refusals:
        raise ConnectionError("the service does not answer")
    return Answer(answered_at_attempt=attempt)


class CrashParams(BaseModel):
    #: A file; once it is there, the bug is fixed.
    fixed: Path


@job("crash")
def crash(params: CrashParams, run: Run) -> str:
    """End the whole processor at once, as the kernel does when memory runs out, until the bug is fixed."""
    if not params.fixed.exists():
        os._exit(9)
    return "fixed"
