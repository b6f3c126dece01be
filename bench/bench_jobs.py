"""The job types that are measured, as Milepost handlers; `peers/` has the same ones for each other system."""

import time

from pydantic import BaseModel, Field

from milepost import Run, job


class NoParams(BaseModel):
    pass


class Duration(BaseModel):
    seconds: float = Field(ge=0, le=60)


class Reports(BaseModel):
    steps: int = Field(ge=1, le=2_000_000)
    #: Seconds between two reports.
    interval: float = Field(ge=0, le=10)


@job("noop")
def noop(params: NoParams, run: Run) -> None:
    """Do nothing."""


@job("pause")
def pause(params: Duration, run: Run) -> None:
    """Sleep."""
    time.sleep(params.seconds)


@job("chatter")
def chatter(params: Duration, run: Run) -> int:
    """Report progress as often as possible, and return the number of reports."""
    end, done = time.monotonic() + params.seconds, 0
    while time.monotonic() < end:
        done += 1
        run.progress(done, message="")
    return done


@job("stamped")
def stamped(params: Reports, run: Run) -> None:
    """Report progress `steps` times; the message is the time of the report."""
    for done in range(1, params.steps + 1):
        time.sleep(params.interval)
        run.progress(done, params.steps, message=repr(time.time()))
