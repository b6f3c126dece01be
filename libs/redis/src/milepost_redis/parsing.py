"""Parses values that are stored in Redis, and skips those that this release can not read."""

import math
import time
from collections.abc import Sequence
from typing import TypeVar

import structlog
from pydantic import ValidationError

from milepost_contracts.values import Value

V = TypeVar("V", bound=Value)

log = structlog.get_logger(__name__)

CLAIM_LOG_INTERVAL = 60.0
"""Seconds between two log entries about unreadable claims."""


class UnreadableClaims:
    """Logs claims that can't be read: one in a while, because who writes such claims may write many."""

    def __init__(self) -> None:
        self._logged_at = -math.inf

    def log(self, job_id: str) -> None:
        """Log that a job's claim can't be read, unless another one was logged a moment ago."""
        if time.monotonic() - self._logged_at >= CLAIM_LOG_INTERVAL:
            self._logged_at = time.monotonic()
            log.warning("claim_unreadable", job_id=job_id)


def parse_known(kind: type[V], bodies: Sequence[bytes]) -> list[V]:
    """Return the values that this release can parse; one that it can't must not hide the others."""
    found = []
    for body in bodies:
        try:
            found.append(kind.model_validate_json(body))
        except ValidationError as error:
            log.warning("stored_value_unreadable", kind=kind.__name__, error=str(error))
    return found
