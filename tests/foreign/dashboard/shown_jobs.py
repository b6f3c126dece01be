"""Handlers for the dashboard's tests."""

import time

from pydantic import BaseModel, ConfigDict, Field

from milepost import Run, job


class Steps(BaseModel):
    model_config = ConfigDict(extra="forbid")

    steps: int = Field(default=50, ge=1, le=100_000, description="How many steps it takes")
    pause: float = 0.1


@job("walk")
def walk(params: Steps, run: Run) -> dict[str, int]:
    """Report progress and emit an event at each step."""
    for step in run.track(range(params.steps), unit="steps", message="walking"):
        time.sleep(params.pause)
        run.emit({"step": step})
    return {"walked": params.steps}


@job("stumble")
def stumble(params: Steps, run: Run) -> None:
    """Fail with a traceback."""
    run.progress(1, params.steps)
    raise ZeroDivisionError("there was a stone")


class Everything(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=2, max_length=20, pattern="^[a-z]+$")
    kind: str = Field(default="plain", json_schema_extra={"enum": ["plain", "fancy"]})
    many: list[int] = []
    loud: bool = False
    maybe: int | None = None


@job("form")
def form(params: Everything, run: Run) -> Everything:
    """Take a param of each kind, and files; return the params and copies of the files."""
    for file in run.files:
        with file.open() as source, run.create(f"copy/{file.name}") as copy:
            copy.write(source.read())
    return params
