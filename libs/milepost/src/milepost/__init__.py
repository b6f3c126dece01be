"""The API for handlers.

from milepost import Run, job

@job("greet")
def greet(params: Greet, run: Run) -> Greeting: ...
"""

from milepost.errors import (
    Canceled,
    InputError,
    Interrupted,
    Reject,
    RetryLater,
    RunStopped,
    Superseded,
    TimedOut,
)
from milepost.files import File
from milepost.job import Handler, JobDefinition, definitions_in, job
from milepost.run import Run

__all__ = [
    "Canceled",
    "File",
    "Handler",
    "InputError",
    "Interrupted",
    "JobDefinition",
    "Reject",
    "RetryLater",
    "Run",
    "RunStopped",
    "Superseded",
    "TimedOut",
    "definitions_in",
    "job",
]
