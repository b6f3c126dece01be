"""Saving what a handler wrote: whole and checked, or not at all."""

import tempfile
from hashlib import sha256
from pathlib import Path

from milepost_client._async.transport import AsyncTransport
from milepost_client.errors import Damaged


async def save(transport: AsyncTransport, url: str, digest: str | None, path: Path) -> Path:
    """Download a file, and return its path.

    Raises:
        Damaged: What came has another digest; nothing is saved.
        Refused, Unavailable: It can't be had.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".milepost-") as folder:
        part, seen = Path(folder, "part"), sha256()
        async with transport.stream(url) as response:
            with part.open("wb") as file:
                async for chunk in response.aiter_bytes():
                    seen.update(chunk)
                    file.write(chunk)
        if digest not in (None, seen.hexdigest()):
            raise Damaged(f"{path.name} came damaged")
        part.replace(path)
    return path
