"""The files of jobs, in blob storage (obstore: a local folder, S3, …), as ordinary binary streams."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import from_url

from milepost_contracts.values import FileRef

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from obstore import ReadableFile
    from obstore.store import ObjectStore

BUFFER = 1 << 20


class _Stream(io.RawIOBase):
    """Makes an object of blob storage a file of the standard library."""

    def __init__(self, reader: "ReadableFile") -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        chunk = self._reader.read(len(view))
        view[: len(chunk)] = memoryview(chunk)
        return len(chunk)


@dataclass(frozen=True)
class BlobFile:
    """See `milepost.File`."""

    store: "ObjectStore"
    ref: FileRef

    @property
    def name(self) -> str:
        return self.ref.name

    @property
    def size(self) -> int:
        return self.ref.size

    def open(self) -> BinaryIO:
        if self.size == 0:
            return io.BytesIO()
        reader = obstore.open_reader(self.store, self.ref.key, buffer_size=BUFFER, size=self.size)
        return cast("BinaryIO", io.BufferedReader(_Stream(reader), BUFFER))


class BlobFiles:
    """See `ports.Files`."""

    def __init__(self, url: str) -> None:
        if url.startswith("file:"):
            Path(unquote(urlsplit(url).path)).mkdir(parents=True, exist_ok=True)
        self._store = from_url(url)

    def open(self, ref: FileRef) -> BlobFile:
        return BlobFile(self._store, ref)
