"""Digest files: uploaded ones, and named ones on the processor's machine."""

import hashlib
import mimetypes
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, Field

from milepost import File, InputError, Run, job
from milepost_basics.small import Strict

CHUNK = 64 * 1024
"""Bytes that are read between two progress reports."""
ROOT_VARIABLE = "DIGEST_FILES_ROOT"
"""The variable with the folder that `paths` is relative to. Without it, jobs with `paths` fail."""


class DigestParams(Strict):
    #: Files on the processor's machine, relative to the folder in `DIGEST_FILES_ROOT`.
    paths: list[str] = Field(default=[], max_length=10_000)
    #: Seconds to wait for a file of average size, in proportion to the bytes read: makes the progress visible.
    pause: float = Field(default=0, ge=0, le=60, allow_inf_nan=False)


class Digest(BaseModel):
    name: str
    sha256: str
    #: Bytes.
    size: int
    #: Line ends, as `wc -l` counts them.
    lines: int
    #: Words between white space, as `wc -w` counts them.
    words: int
    media_type: str


class Digests(BaseModel):
    files: int
    size: int
    lines: int
    words: int
    media_types: dict[str, int]
    #: SHA-256 over a `sha256sum`-style listing of all files in their order.
    listing_sha256: str


@job("digest-files")
def digest_files(params: DigestParams, run: Run) -> Digests:
    """Digest files: SHA-256, size, lines, words and media type of each.

    Reads the uploaded files, then those in `paths`. Each finished file is emitted as an item, and all are listed in the
    output file `SHA256SUMS`, for `sha256sum --check` in the folder that was uploaded.
    """
    files: list[File] = [*run.files, *_named(params.paths)]
    if not files:
        raise InputError("there is nothing to digest: upload files with the job, or set paths")
    read, total = 0, sum(file.size for file in files)
    pause_per_byte = params.pause * len(files) / max(total, 1)
    digests: list[Digest] = []
    for file in files:
        tally = _Tally()
        with file.open() as stream:
            for chunk in _chunks(stream):
                tally.add(chunk)
                read += len(chunk)
                run.progress(read, total, _progress_message(file, len(digests), len(files)), unit="bytes")
                _wait(pause_per_byte * len(chunk), run)
        digests.append(tally.digest(file.name))
        run.emit(digests[-1])
        run.progress(read, total, _progress_message(file, len(digests), len(files)), unit="bytes")
    listing = "".join(f"{digest.sha256}  {digest.name}\n" for digest in digests).encode()
    with run.create("SHA256SUMS", media_type="text/plain") as file_of_digests:
        file_of_digests.write(listing)
    return Digests(
        files=len(digests),
        size=sum(digest.size for digest in digests),
        lines=sum(digest.lines for digest in digests),
        words=sum(digest.words for digest in digests),
        media_types=dict(Counter(digest.media_type for digest in digests).most_common(50)),
        listing_sha256=hashlib.sha256(listing).hexdigest(),
    )


def _wait(seconds: float, run: Run) -> None:
    """Sleep in steps of at most a second, so that the job can be stopped meanwhile."""
    while seconds > 0:
        time.sleep(min(seconds, 1.0))
        seconds -= 1.0
        run.checkpoint()


def _progress_message(file: File, finished: int, count: int) -> str:
    return f"{finished} of {count} files · {file.name}"


def _chunks(stream: BinaryIO) -> Iterable[bytes]:
    while chunk := stream.read(CHUNK):
        yield bytes(chunk)


class _Tally:
    """Counts one file, chunk by chunk."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._size = self._lines = self._words = 0
        self._inside_word = False

    def add(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._size += len(chunk)
        self._lines += chunk.count(b"\n")
        words = chunk.split()
        self._words += len(words)
        if words and self._inside_word and not chunk[:1].isspace():
            self._words -= 1  # the word began in the previous chunk
        self._inside_word = not chunk[-1:].isspace()

    def digest(self, name: str) -> Digest:
        return Digest(
            name=name,
            sha256=self._sha256.hexdigest(),
            size=self._size,
            lines=self._lines,
            words=self._words,
            media_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
        )


@dataclass(frozen=True)
class _LocalFile:
    name: str
    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def open(self) -> BinaryIO:
        return self.path.open("rb")


def _named(paths: list[str]) -> list[_LocalFile]:
    if not paths:
        return []
    root_text = os.environ.get(ROOT_VARIABLE)
    if not root_text:
        raise InputError(f"this processor reads no local files: {ROOT_VARIABLE} is not set. Upload the files instead")
    root = Path(root_text).resolve()
    found = []
    for text in paths:
        path = (root / text).resolve() if "\0" not in text else root
        if not path.is_relative_to(root) or not path.is_file():
            raise InputError(f"there is no file {text!r} in the folder of {ROOT_VARIABLE}")
        found.append(_LocalFile(name=text, path=path))
    return found
