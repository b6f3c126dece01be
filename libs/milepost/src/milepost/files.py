"""The files that come with a job, and those that its handler writes."""

import mimetypes
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from milepost_contracts.values import MEDIA_TYPE

_MAX_NAME = 255


class File(Protocol):
    """An uploaded file of the job."""

    @property
    def name(self) -> str:
        """The client's name for it: a relative path, used only as a label."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    def open(self) -> BinaryIO:
        """Open the file for reading, in binary mode."""


class Outputs(Protocol):
    """Storage for the files that a handler writes."""

    def create(self, name: str, *, media_type: str, as_result: bool) -> AbstractContextManager[BinaryIO]:
        """Open a new file for writing; it is stored when the context exits without an error."""

    @property
    def result(self) -> object:
        """The file that is the job's result; `None` if none was written completely."""


def checked_media_type(name: str, media_type: str | None) -> str:
    """Return the media type of a file to write: the given one, or one that is guessed from the name.

    Raises:
        ValueError: The name or the media type is invalid.
    """
    parts = name.split("/")
    if not 0 < len(name) <= _MAX_NAME or not name.isprintable() or "\\" in name or {"", ".", ".."} & set(parts):
        raise ValueError(f"{name!r} is not a relative path of up to {_MAX_NAME} printable characters")
    kind = media_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
    if not MEDIA_TYPE.fullmatch(kind):
        raise ValueError(f"{kind!r} is not a media type such as text/csv")
    return kind
