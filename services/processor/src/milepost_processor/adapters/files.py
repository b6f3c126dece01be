"""The files of jobs, in blob storage (obstore: a local folder, S3, …), as ordinary binary streams."""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import unquote, urlsplit

import obstore
import structlog
from obstore.store import from_url

from milepost_contracts.values import FileRef, Job

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer
    from obstore import ReadableFile, WritableFile
    from obstore.store import ObjectStore

log = structlog.get_logger(__name__)

BUFFER_SIZE = 1 << 20

_forked = threading.Event()
os.register_at_fork(after_in_child=_forked.set)


def _check_not_forked() -> None:
    """Refuse what would wait for ever: a forked child has none of the threads of obstore.

    Raises:
        RuntimeError: This process is a forked child.
    """
    if _forked.is_set():
        raise RuntimeError(
            "the files of a job can't be read or written in a forked process: do so in the handler's own process, "
            'or start the other one with multiprocessing.get_context("spawn")'
        )


class _Stream(io.RawIOBase):
    """An object in blob storage as a raw stream of the standard library."""

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
        _check_not_forked()
        view = memoryview(buffer)
        chunk = self._reader.read(len(view))
        view[: len(chunk)] = memoryview(chunk)
        return len(chunk)


@dataclass(frozen=True)
class _BlobFile:
    """Implements `milepost.File`."""

    store: "ObjectStore"
    ref: FileRef
    path: str

    @property
    def name(self) -> str:
        return self.ref.name

    @property
    def size(self) -> int:
        return self.ref.size

    def open(self) -> BinaryIO:
        _check_not_forked()
        if self.size == 0:
            return io.BytesIO()
        reader = obstore.open_reader(self.store, self.path, buffer_size=BUFFER_SIZE, size=self.size)
        return cast("BinaryIO", io.BufferedReader(_Stream(reader), BUFFER_SIZE))


class BlobFiles:
    """Implements `ports.files.Files`."""

    def __init__(self, url: str, *, namespace: str) -> None:
        """Open the storage; deployments may share it, each in its namespace."""
        self._folder = f"{namespace}/"
        if url.startswith("file:"):
            Path(unquote(urlsplit(url).path)).mkdir(parents=True, exist_ok=True)
        self._store = from_url(url)

    def open(self, ref: FileRef) -> _BlobFile:
        return _BlobFile(self._store, ref, self._folder + ref.key)

    def outputs(self, job: Job) -> "_BlobOutputs":
        return _BlobOutputs(self._store, self._folder, f"jobs/{job.id}/{job.execution}")


def describe_store(url: str) -> str:
    """Return that the objects of a storage can be listed, or raise the error of the storage."""
    store = from_url(url, client_options={"timeout": "5s"}, retry_config={"max_retries": 1})
    next(iter(obstore.list(store, chunk_size=1)), None)
    return "its objects can be listed"


class _Digested(io.RawIOBase):
    """Passes on what is written, and computes its size and digest."""

    def __init__(self, writer: "WritableFile") -> None:
        self._writer = writer
        self.size = 0
        self.digest = sha256()

    def writable(self) -> bool:
        return True

    def write(self, buffer: "ReadableBuffer") -> int:
        _check_not_forked()
        chunk = bytes(buffer)
        self._writer.write(chunk)
        self.digest.update(chunk)
        self.size += len(chunk)
        return len(chunk)


class _BlobOutputs:
    """Implements `ports.files.Outputs`. The gateways delete orphaned files."""

    def __init__(self, store: "ObjectStore", folder: str, prefix: str) -> None:
        self._store = store
        self._folder = folder
        self._prefix = prefix
        self._numbers = count()
        self._state_numbers = count()
        self._written: list[FileRef] = []
        self._result: FileRef | None = None

    @property
    def written(self) -> tuple[FileRef, ...]:
        return tuple(self._written)

    @property
    def result(self) -> FileRef | None:
        return self._result

    def store_state(self, encoded: bytes) -> FileRef:
        key = f"{self._prefix}/state-{next(self._state_numbers):06d}"
        obstore.put(self._store, self._folder + key, encoded)
        return FileRef(name="state.json", size=len(encoded), key=key, media_type="application/json")

    def remove(self, file: FileRef) -> None:
        try:
            obstore.delete(self._store, self._folder + file.key)
        except Exception as error:
            log.warning("file_not_removed", key=file.key, exc_info=error)

    @contextmanager
    def create(self, name: str, *, media_type: str, as_result: bool) -> Iterator[BinaryIO]:
        key = f"{self._prefix}/{next(self._numbers):04d}"
        writer = obstore.open_writer(self._store, self._folder + key, buffer_size=BUFFER_SIZE)
        digested = _Digested(writer)
        buffered = io.BufferedWriter(digested, BUFFER_SIZE)
        try:
            yield cast("BinaryIO", buffered)
        except BaseException:
            with suppress(Exception):  # an incomplete file would remain where no listing shows it
                writer.close()
                obstore.delete(self._store, self._folder + key)
            raise
        if not buffered.closed:  # the handler may have closed it itself
            buffered.close()
        writer.close()
        ref = FileRef(name=name, size=digested.size, key=key, digest=digested.digest.hexdigest(), media_type=media_type)
        if as_result:
            self._result = ref
        else:
            self._written.append(ref)
