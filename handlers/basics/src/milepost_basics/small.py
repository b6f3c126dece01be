"""Three small handlers, for trials and measurements."""

import asyncio
import time

from pydantic import BaseModel, ConfigDict, Field

from milepost import Run, job


class Strict(BaseModel):
    """Params that reject unknown fields, so that a typo is an error."""

    model_config = ConfigDict(extra="forbid")


class CountParams(Strict):
    steps: int = Field(default=10, ge=0, le=10_000_000)
    #: Seconds to sleep in each step.
    delay: float = Field(default=0.1, ge=0, le=3_600, allow_inf_nan=False)


class Counted(BaseModel):
    counted: int


@job("count")
def count(params: CountParams, run: Run) -> Counted:
    """Count up, step by step; a further attempt resumes from the last saved step."""
    resumed_at = run.saved_state or 0
    run.progress(resumed_at, params.steps, unit="steps")
    for done in range(resumed_at + 1, params.steps + 1):
        time.sleep(params.delay)
        run.save(done)
        run.progress(done, params.steps, unit="steps")
    return Counted(counted=params.steps)


class EchoParams(Strict):
    text: str = Field(max_length=10_000)
    #: Seconds to wait before the answer.
    pause: float = Field(default=0, ge=0, le=3_600, allow_inf_nan=False)
    #: How many times to repeat the text.
    times: int = Field(default=1, ge=1, le=1_000)


class Echoed(BaseModel):
    text: str


@job("echo")
async def echo(params: EchoParams, run: Run) -> Echoed:
    """Return the text, after a pause."""
    run.checkpoint()
    await asyncio.sleep(params.pause)
    return Echoed(text=params.text * params.times)


class NoParams(Strict):
    pass


@job("noop")
def noop(params: NoParams, run: Run) -> None:
    """Do nothing, to measure the overhead of a job."""
