"""Files in memory: those that come with a job, and those that its handler writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO


@dataclass(frozen=True)
class MemoryFile:
    """A file for a handler under test."""

    name: str
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def open(self) -> BinaryIO:
        return BytesIO(self.content)


class MemoryOutputs:
    """See `milepost.run.Outputs`: keeps what is written."""

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}
        #: The name of the one that is the result.
        self.result: str | None = None

    @contextmanager
    def create(self, name: str, *, media_type: str, as_result: bool) -> Iterator[BinaryIO]:
        del media_type
        file = BytesIO()
        yield file
        self.written[name] = file.getvalue()
        if as_result:
            self.result = name
