"""The job types that processors announced: kept in memory, so that submission works while Redis is away."""

import asyncio
import difflib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn

import jsonschema_rs
import structlog

from milepost_contracts.fleet import Beat, JobType
from milepost_contracts.problems import ProblemDetail
from milepost_gateway.errors import InvalidParams, StoreUnavailable, UnknownJobType
from milepost_gateway.ports import FleetStore

log = structlog.get_logger(__name__)

REFRESH_EVERY = timedelta(seconds=2)
SILENT_FOR = 15.0
"""Seconds without a processor after which nobody serves a queue: beats come every few seconds, and Redis forgets."""
NEAR = 3
"""How many names an unknown type is compared to in the answer."""
MAX_PLACES = 20


@dataclass(frozen=True)
class KnownType:
    """An announced type with its schema compiled."""

    announced: JobType
    validator: Any

    def check(self, params: Mapping[str, Any]) -> None:
        """Raise `InvalidParams` with every place where the params don't fit."""
        places = []
        for error in self.validator.iter_errors(params):
            pointer = "/params" + "".join(f"/{_escaped(step)}" for step in error.instance_path)
            places.append(ProblemDetail(pointer=pointer, detail=error.message[:500]))
            if len(places) == MAX_PLACES:
                break
        if places:
            raise InvalidParams(places)


@dataclass
class Catalogue:
    """What can be submitted. Reads the fleet store every few seconds, and at once for a name it does not know."""

    store: FleetStore
    _types: dict[str, KnownType] = field(default_factory=dict)
    _begun_at: float = field(default_factory=time.monotonic)
    _looked_at: float = float("-inf")
    #: When each queue was last seen to be served.
    _alive_at: dict[str, float] = field(default_factory=dict)
    #: How many seconds jobs of a queue wait at present, as its processors say.
    _waits: dict[str, float] = field(default_factory=dict)

    async def refresh(self) -> None:
        """Take over what processors have announced since.

        Raises:
            StoreUnavailable: The store does not answer; what is known stays.
        """
        types = dict(self._types)  # a store that has forgotten a type is no reason to refuse its jobs
        for announced in await self.store.job_types():
            try:
                types[announced.type] = self._compiled(announced)
            except ValueError as error:
                log.warning("schema_unusable", type=announced.type, error=str(error))
        self._types = types

    def serves(self, queue: str) -> bool:
        """Whether a processor that serves this queue was alive lately, or nobody can say."""
        at = time.monotonic()
        if at - self._looked_at > SILENT_FOR:
            return True
        return at - self._alive_at.get(queue, self._begun_at) < SILENT_FOR

    async def keep_fresh(self) -> None:
        """Refresh until cancelled."""
        while True:
            try:
                await self.refresh()
                await self.processors()
            except StoreUnavailable as error:
                log.warning("catalogue_not_refreshed", error=str(error))
            await asyncio.sleep(REFRESH_EVERY.total_seconds())

    async def find(self, name: str) -> KnownType:
        """Return the type.

        Raises:
            UnknownJobType: Nobody has announced it.
            StoreUnavailable: It is not known, and whether somebody announced it can't be read now.
        """
        if name not in self._types:
            await self.refresh()
        found = self._types.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self._types, n=NEAR, cutoff=0.5)
            raise UnknownJobType(name, near or sorted(self._types)[:NEAR], known=len(self._types))
        return found

    async def all(self) -> Sequence[JobType]:
        """Return all types, by name."""
        await self.refresh()
        return [self._types[name].announced for name in sorted(self._types)]

    async def processors(self) -> Sequence[Beat]:
        """Return the processors that are alive, and take note of the queues that they serve."""
        beats = await self.store.processors()
        self._looked_at = time.monotonic()
        self._alive_at |= {queue: self._looked_at for beat in beats for queue in beat.queues}
        self._waits = _waits(beats)
        return beats

    def usual_wait(self, queue: str | None) -> float | None:
        """Return how many seconds jobs of a queue have waited lately until they were started, if anybody knows."""
        return None if queue is None else self._waits.get(queue)

    def _compiled(self, announced: JobType) -> KnownType:
        known = self._types.get(announced.type)
        if known is not None and known.announced == announced:
            return known
        return KnownType(announced, jsonschema_rs.Draft202012Validator(announced.params_schema, retriever=_refuse))


def _waits(beats: Sequence[Beat]) -> dict[str, float]:
    """Return how long jobs wait at present, by queue: not at all where somebody has a thread to spare."""
    told: dict[str, list[float]] = defaultdict(list)
    idle = {queue for beat in beats if len(beat.running) < beat.threads for queue in beat.queues}
    for beat in beats:
        for queue, seconds in beat.waits.items():
            told[queue].append(0.0 if queue in idle else seconds)
    return {queue: sum(seconds) / len(seconds) for queue, seconds in told.items()}


def _refuse(uri: str) -> NoReturn:
    """A schema must stand by itself: the gateway fetches nothing because a processor says so."""
    raise ValueError(f"the schema refers to {uri}")


def _escaped(step: str | int) -> str:
    """Escape one step of a JSON pointer (RFC 6901)."""
    return str(step).replace("~", "~0").replace("/", "~1")
