"""Blob storage (obstore): a local folder, or S3 and its like by URL, behind one port."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import from_url

log = structlog.get_logger(__name__)


class ObjectBlobs:
    """See `ports.Blobs`."""

    def __init__(self, url: str) -> None:
        if url.startswith("file:"):
            Path(unquote(urlsplit(url).path)).mkdir(parents=True, exist_ok=True)
        self._store = from_url(url)

    async def put(self, key: str, content: AsyncIterator[bytes]) -> int:
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in content:
                size += len(chunk)
                yield chunk

        await obstore.put_async(self._store, key, counted())
        return size

    async def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                await obstore.delete_async(self._store, key)
            except (BaseError, OSError) as error:
                log.warning("blob_not_removed", key=key, error=str(error))
