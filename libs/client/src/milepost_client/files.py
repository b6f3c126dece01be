"""Local files to upload: opened one at a time, and read while they are sent."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from milepost_client.arguments import several


@dataclass(frozen=True)
class LocalFile:
    """A local file, and its name in the job: a relative path with forward slashes."""

    path: Path
    name: str

    def lazy(self) -> "_LazyFile":
        return _LazyFile(self.path)


class _LazyFile:
    """A file that opens at the first read and closes at its end, so that a thousand files need one file handle.

    It has only `read`: httpx can't determine its length, and sends the body chunked.
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


def find_files(paths: Iterable[str | os.PathLike[str]]) -> list[LocalFile]:
    """Return these files, and for each folder its files recursively, sorted, without hidden files and links.

    Raises:
        FileNotFoundError: One of the paths does not exist.
        TypeError: `paths` is a single path.
    """
    return [file for path in several("paths", paths) for file in _found(Path(path))]


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
