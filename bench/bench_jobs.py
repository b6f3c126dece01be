"""The job types that are measured, as handlers of Milepost; `peers/` has the same ones for each other system."""

import time

from pydantic import BaseModel, Field

from milepost import Run, job


class Nothing(BaseModel):
    pass


class Length(BaseModel):
    seconds: float = Field(ge=0, le=60)


class Steps(BaseModel):
    steps: int = Field(ge=1, le=2_000_000)
    #: Seconds between two.
    every: float = Field(ge=0, le=10)


@job("noop")
def noop(params: Nothing, run: Run) -> None:
    """Do nothing."""


@job("pause")
def pause(params: Length, run: Run) -> None:
    """Sleep."""
    time.sleep(params.seconds)


@job("chatter")
def chatter(params: Length, run: Run) -> int:
    """Report as often as can be, and return how often that was."""
    until, done = time.monotonic() + params.seconds, 0
    while time.monotonic() < until:
        done += 1
        run.progress(done, message="")
    return done


@job("stamped")
def stamped(params: Steps, run: Run) -> None:
    """Report progress again and again, each time with the time of the report."""
    for done in range(1, params.steps + 1):
        time.sleep(params.every)
        run.progress(done, params.steps, message=repr(time.time()))
