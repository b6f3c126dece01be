"""Local files on their way to a job: opened one at a time, read as they are sent."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class LocalFile:
    """A file and the name it goes by: a relative path with forward slashes."""

    path: Path
    name: str

    def opened_late(self) -> "LateFile":
        return LateFile(self.path)


class LateFile:
    """Opens when it is first read and closes at its end: a thousand of them need one file handle.

    Has `read` alone: without a length to ask for, httpx sends the body in chunks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: BinaryIO | None = None

    def read(self, size: int = -1) -> bytes:
        if self._stream is None:
            self._stream = self._path.open("rb")
        chunk = self._stream.read(size)
        if not chunk:
            self._stream.close()
            self._stream = None
        return chunk


def find_files(paths: Iterable[Path | str]) -> list[LocalFile]:
    """Return these files, and for each folder all files in it and below, hidden ones and links left out, sorted.

    Raises:
        FileNotFoundError: One of the paths does not exist.
    """
    return [file for path in paths for file in _found(Path(path))]


def _found(path: Path) -> Iterator[LocalFile]:
    if path.is_dir():
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
            for name in sorted(names):
                found = Path(folder, name)
                if not name.startswith(".") and found.is_file() and not found.is_symlink():
                    yield LocalFile(found, found.relative_to(path).as_posix())
    elif path.exists():
        yield LocalFile(path, path.name if path.is_absolute() or ".." in path.parts else path.as_posix())
    else:
        raise FileNotFoundError(path)
