"""In-memory files: uploads of a job, and the outputs of its handler."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO


@dataclass(frozen=True)
class MemoryFile:
    """An uploaded file for a handler under test."""

    name: str
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def open(self) -> BinaryIO:
        return BytesIO(self.content)


class MemoryOutputs:
    """An in-memory implementation of `milepost.files.Outputs`."""

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}
        #: The name of the file that is the result, if any.
        self.result: str | None = None

    @contextmanager
    def create(self, name: str, *, media_type: str, as_result: bool) -> Iterator[BinaryIO]:
        del media_type
        file = BytesIO()
        yield file
        self.written[name] = file.getvalue()
        if as_result:
            self.result = name
