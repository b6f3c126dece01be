# Made from _async/downloads.py by 'make contracts': change it there.
"""Downloads of output files: a file is saved only once it is complete and its digest is verified."""

import tempfile
from hashlib import sha256
from pathlib import Path

from milepost_client._sync.transport import Transport
from milepost_client.errors import DownloadError


def save(transport: Transport, url: str, digest: str | None, path: Path) -> Path:
    """Download a file, and return its path.

    Raises:
        DownloadError: The digest does not match; nothing is saved.
        Refused, Unavailable: As for `AsyncTransport.stream`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".milepost-") as folder:
        part, seen = Path(folder, "part"), sha256()
        with transport.stream(url) as response, part.open("wb") as file:
            for chunk in response.iter_bytes():
                seen.update(chunk)
                file.write(chunk)
        if digest not in (None, seen.hexdigest()):
            raise DownloadError(f"{path.name}: the digest does not match. Download it again.")
        part.replace(path)
    return path
