"""Blobs in memory."""

from collections.abc import AsyncIterator
from hashlib import sha256

from milepost_gateway.errors import BlobStoreUnavailable, JobExpired
from milepost_gateway.ports.blob_store import StoredBlob


class FakeBlobStore:
    def __init__(self):
        self.stored: dict[str, bytes] = {}
        self.away = False

    async def put(self, key: str, content: AsyncIterator[bytes]) -> StoredBlob:
        stored = self.stored[key] = b"".join([chunk async for chunk in content])
        return StoredBlob(len(stored), sha256(stored).hexdigest())

    async def open(self, key, start, end):
        self._answer()
        if key not in self.stored:
            raise JobExpired

        async def bytewise():
            for at in range(start, end):
                yield self.stored[key][at : at + 1]

        return bytewise()

    async def keys(self, folder):
        self._answer()
        for key in list(self.stored):
            if key.startswith(f"{folder}/"):
                yield key

    def _answer(self):
        if self.away:
            raise BlobStoreUnavailable

    async def remove(self, keys):
        for key in keys:
            self.stored.pop(key, None)
