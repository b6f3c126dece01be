"""The files that a job reads and writes."""

from typing import Protocol

import milepost.files
from milepost import File
from milepost_contracts.values import FileRef, Job


class Outputs(milepost.files.Outputs, Protocol):
    """The files that one execution writes."""

    @property
    def written(self) -> tuple[FileRef, ...]:
        """The files that were written completely, in order."""

    @property
    def result(self) -> FileRef | None:
        """The result, if it was written."""

    def store_state(self, encoded: bytes) -> FileRef:
        """Store a saved state as a file of this execution, and return it."""

    def remove(self, file: FileRef) -> None:
        """Remove a file of the job. A failure is logged: the file is removed when the job has expired."""


class Files(Protocol):
    """Opens the files of jobs."""

    def open(self, ref: FileRef) -> File:
        """Return the file that came with a job."""

    def outputs(self, job: Job) -> Outputs:
        """Return where this execution of a job writes to."""
