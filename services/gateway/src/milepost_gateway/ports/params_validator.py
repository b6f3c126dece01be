"""Validation of params by a process that can be ended: some schemas take more time or memory than a gateway has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from milepost_contracts.http.problems import ProblemDetail


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found out within the limits."""

    valid: bool | None
    """Whether the params match the schema; nothing if that took too long."""
    errors: Sequence[ProblemDetail] = ()
    """The first validation errors; none if they took too long."""
    in_time: bool = True
    """False if the validation had no turn in time: it may succeed later."""


class ParamsValidator(Protocol):
    """Validates JSON texts against schemas, within limits of time and memory."""

    async def find_fault(self, schema: bytes) -> str | None:
        """Return why a schema can't be used; nothing if it can, or if that can't be known now."""

    async def validate(self, schema: bytes, params: bytes, *, tenant: str, until: float) -> Verdict:
        """Return whether the params match the schema. Tenants take turns; `until` is a time of the event loop."""
