"""Parses values that are stored in Redis, and skips those that this release can not read."""

from collections.abc import Sequence
from typing import TypeVar

import structlog
from pydantic import ValidationError

from milepost_contracts.values import Value

V = TypeVar("V", bound=Value)

log = structlog.get_logger(__name__)


def parse_known(kind: type[V], bodies: Sequence[bytes]) -> list[V]:
    """Return the values that this release can parse; one that it can't must not hide the others."""
    found = []
    for body in bodies:
        try:
            found.append(kind.model_validate_json(body))
        except ValidationError as error:
            log.warning("stored_value_unreadable", kind=kind.__name__, error=str(error))
    return found
