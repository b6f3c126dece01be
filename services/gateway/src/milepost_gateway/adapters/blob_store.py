"""Blob storage (obstore): a local folder, or S3 and the like, by URL."""

from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import from_url

from milepost_gateway.errors import BlobStoreUnavailable, JobExpired
from milepost_gateway.ports.blob_store import StoredBlob

if TYPE_CHECKING:
    from obstore import GetResult

CHUNK_SIZE = 1 << 18

log = structlog.get_logger(__name__)


class ObjectBlobStore:
    """Implements `ports.blob_store.BlobStore`."""

    def __init__(self, url: str, *, namespace: str) -> None:
        """Open the storage at this URL; deployments may share it, each in its namespace."""
        self._folder = f"{namespace}/"
        if url.startswith("file:"):
            Path(unquote(urlsplit(url).path)).mkdir(parents=True, exist_ok=True)
        self._store = from_url(url)

    async def put(self, key: str, content: AsyncIterator[bytes]) -> StoredBlob:
        size, digest = 0, sha256()

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in content:
                size += len(chunk)
                digest.update(chunk)
                yield chunk

        try:
            await obstore.put_async(self._store, self._folder + key, counted())
        except (BaseError, OSError) as error:
            raise BlobStoreUnavailable(str(error)) from error
        return StoredBlob(size, digest.hexdigest())

    async def open(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        if start == end:
            return _nothing()
        try:
            found = await obstore.get_async(self._store, self._folder + key, options={"range": (start, end)})
        except FileNotFoundError as error:
            raise JobExpired from error
        except (BaseError, OSError) as error:
            raise BlobStoreUnavailable(str(error)) from error
        return _chunks(found)

    async def keys(self, folder: str) -> AsyncIterator[str]:
        try:
            async for some in obstore.list(self._store, prefix=self._folder + folder):
                for one in some:
                    yield one["path"].removeprefix(self._folder)
        except (BaseError, OSError) as error:
            raise BlobStoreUnavailable(str(error)) from error

    async def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                await obstore.delete_async(self._store, self._folder + key)
            except (BaseError, OSError) as error:
                log.warning("blob_not_removed", key=key, error=str(error))


async def describe_store(url: str) -> str:
    """Return that the objects of a storage can be listed, or raise the error of the storage."""
    store = from_url(url, client_options={"timeout": "5s"}, retry_config={"max_retries": 1})
    async for _ in obstore.list(store, chunk_size=1):
        break
    return "its objects can be listed"


async def _chunks(found: "GetResult") -> AsyncIterator[bytes]:
    async for chunk in found.stream(min_chunk_size=CHUNK_SIZE):
        yield bytes(chunk)


async def _nothing() -> AsyncIterator[bytes]:
    yield b""
