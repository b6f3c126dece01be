"""The access file, read again when it has changed: keys are created and revoked without a restart."""

import time
from pathlib import Path

import structlog

from milepost_contracts.http.access import Access, read_access

log = structlog.get_logger(__name__)

FILE_CHECK_INTERVAL = 1.0
"""Seconds between two checks whether the file has changed."""


class AccessFile:
    """Implements `ports.access_rules.AccessRules`."""

    def __init__(self, path: Path | None) -> None:
        """Read the file; without one there are no keys, and only the default limits.

        Raises:
            ValueError: It can't be read or is invalid; says where.
        """
        self._path = path
        self._checked_at = time.monotonic()
        self._stamp = _stamp(path)
        self._access = Access() if path is None else read_access(path)

    def current(self) -> Access:
        """Return the rules in force. A file that can't be read any more changes nothing, and is logged."""
        if self._path is not None and time.monotonic() - self._checked_at > FILE_CHECK_INTERVAL:
            self._checked_at = time.monotonic()
            if (stamp := _stamp(self._path)) != self._stamp:
                self._stamp = stamp
                self._read_again(self._path)
        return self._access

    def _read_again(self, path: Path) -> None:
        try:
            self._access = read_access(path)
        except ValueError as error:
            log.warning("access_file_unusable", error=str(error))
        else:
            log.info("access_file_read", keys=len(self._access.keys))


def _stamp(path: Path | None) -> tuple[int, ...] | None:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
