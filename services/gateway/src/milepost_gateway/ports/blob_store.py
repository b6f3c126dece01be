"""The files of jobs."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class StoredBlob:
    """The size and digest of a stored blob."""

    #: Bytes.
    size: int
    #: SHA-256, in hex.
    digest: str


class BlobStore(Protocol):
    """Stores the files of jobs."""

    async def put(self, key: str, content: AsyncIterator[bytes]) -> StoredBlob:
        """Store the content, and return its size and digest.

        Raises:
            BlobStoreUnavailable: It is not stored.
        """

    async def open(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Return the bytes from `start` to before `end`.

        Raises:
            JobExpired: There is no such blob any more.
            BlobStoreUnavailable: It can't be read now.
        """

    def keys(self, folder: str) -> AsyncIterator[str]:
        """Yield the keys of all blobs in a folder.

        Raises:
            BlobStoreUnavailable: They can't be listed now.
        """

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove these blobs, if they exist; never raises."""
