"""A handler that says when it said so."""

import time

from pydantic import BaseModel, Field

from milepost import Run, job


class Steps(BaseModel):
    steps: int = Field(ge=1, le=100_000)
    #: Seconds between two.
    every: float = Field(ge=0, le=10)


@job("stamped")
def stamped(params: Steps, run: Run) -> None:
    """Report progress again and again, each time with the time of the report."""
    for done in range(1, params.steps + 1):
        time.sleep(params.every)
        run.progress(done, params.steps, message=repr(time.time()))
