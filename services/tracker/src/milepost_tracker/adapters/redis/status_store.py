"""The status view in Redis."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pydantic_core
import structlog
from pydantic import TypeAdapter, ValidationError
from redis.asyncio import Redis

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import JobEvent
from milepost_contracts.states import Status
from milepost_contracts.status import deadlines, history, render
from milepost_contracts.status.document import DEAD_LETTERED
from milepost_contracts.status.ends import is_waiting_end
from milepost_contracts.status.merge import View, cancel_key
from milepost_contracts.status.redis_keys import Keys, shard_of
from milepost_contracts.status.summary import render_summary, summarize
from milepost_contracts.values import MAX_LISTED_ATTEMPTS, Attempt, Job
from milepost_redis.calls import execute, in_every_shard, milliseconds, milliseconds_since_1970, raising
from milepost_redis.parsing import UnreadableClaims
from milepost_redis.scripts import Argument, Script
from milepost_tracker.adapters.redis.checkpoints import RedisCheckpoints
from milepost_tracker.errors import StoreUnavailable
from milepost_tracker.ports.status_store import Applied, ClaimState, KnownJob

log = structlog.get_logger(__name__)

GRACE = timedelta(days=1)
"""A job's hash outlives its expiry by this, so that a sweep still knows which indexes the job is in."""
SWEEP_LIMIT = 100
"""Jobs of one shard that one call sweeps, or finds overdue."""
OVERDUE_LEASE = timedelta(seconds=30)
"""How long an overdue job is left to the tracker that found it."""
CLOCK_TOLERANCE = timedelta(hours=1)
"""Clocks may differ by up to this without ending a job."""

UNREADABLE_CLAIM = 2
"""What `apply.lua` returns of a job that only the tracker will end, because its claim is unreadable."""

_PACKAGE = "milepost_tracker.adapters.redis"
_ATTEMPTS = TypeAdapter(tuple[Attempt, ...])


class RedisStatusStore:
    """Implements `ports.status_store.StatusStore` with `apply.lua`: one call for each shard that a batch touches."""

    def __init__(self, redis: Redis, keys: Keys, *, retention: timedelta, live_for: timedelta) -> None:
        self._redis = redis
        self._keys = keys
        self._retention = retention
        self._live_for = live_for
        self._lengths = [milliseconds(length) for length in (retention, live_for, GRACE)]
        scripts = (Script(_PACKAGE, f"{name}.lua") for name in ("sweep", "overdue", "tagged"))
        self._sweep, self._overdue, self._tagged = scripts
        scripts = (Script(_PACKAGE, f"{name}.lua", reads_claims=True) for name in ("apply", "claim_fields"))
        self._apply, self._claim_fields = scripts
        self._unreadable_claims = UnreadableClaims()
        self.checkpoints = RedisCheckpoints(redis, keys, lasts=live_for + GRACE)

    async def apply(self, views: Mapping[str, View], *, replayed: bool = False) -> Applied:
        by_shard: dict[int, list[tuple[str, View]]] = defaultdict(list)
        for job_id, view in views.items():
            by_shard[shard_of(job_id)].append((job_id, view))

        def fill(pipe: Any) -> None:
            for shard, group in by_shard.items():
                self._add_apply(pipe, shard, group, replayed=replayed)
            self._add_tags(pipe, views.values())

        with raising(StoreUnavailable):
            answers = (await execute(self._redis, fill, self._apply, self._tagged))[: len(by_shard)]
        applied, lost, is_open = Applied(changed=0), dict[str, View](), dict[str, bool]()
        for (shard, group), (checkpoint, *results) in zip(by_shard.items(), answers, strict=True):
            if checkpoint < 0:
                lost.update(group)
                continue
            if not replayed:
                self.checkpoints.record(shard, checkpoint)
            orphans = [job_id for (job_id, _), orphan in zip(group, results[1::3], strict=True) if orphan]
            for (job_id, _), orphan in zip(group, results[1::3], strict=True):
                if orphan == UNREADABLE_CLAIM:
                    self._unreadable_claims.log(job_id)
            applied += Applied(changed=sum(version > 0 for version in results[::3]), orphans=tuple(orphans))
            is_open.update({job_id: bool(flag) for (job_id, _), flag in zip(group, results[2::3], strict=True)})
        with raising(StoreUnavailable):
            await self._record_unfinished(views, is_open)
        # A shard that has lost writes must not hold up the others: the replay restores what is missing.
        return applied + await self.apply(lost, replayed=True) if lost else applied

    def _add_tags(self, pipe: Any, views: Iterable[View]) -> None:
        """Record in the indexes of their tags that jobs have changed, and notify the listeners; idempotent."""
        for (tenant, tag), job_ids in _by_tag(views).items():
            self._tagged.add_to(pipe, [self._keys.tagged(tenant, tag)], milliseconds(self._retention), *job_ids)
            pipe.publish(self._keys.changes_of_tag(tenant, tag), " ".join(job_ids))

    async def _record_unfinished(self, views: Mapping[str, View], is_open: Mapping[str, bool]) -> None:
        """Record in the indexes of their tags which jobs have not ended.

        By what the view has now, not by these events: more of a job that has ended may be on their way.
        """
        tags = _by_tag(views[job_id] for job_id in is_open)

        def fill(pipe: Any) -> None:
            for (tenant, tag), job_ids in tags.items():
                key = self._keys.unfinished(tenant, tag)
                if unfinished := [job_id for job_id in job_ids if is_open[job_id]]:
                    self._tagged.add_to(pipe, [key], self._lengths[1], *unfinished)
                if ended := [job_id for job_id in job_ids if not is_open[job_id]]:
                    pipe.zrem(key, *ended)

        if tags:
            await execute(self._redis, fill, self._tagged)

    def _add_apply(self, pipe: Any, shard: int, group: Sequence[tuple[str, View]], *, replayed: bool) -> None:
        own = self._keys
        keys = [own.expiry(shard), own.deadline(shard), own.checkpoint(shard)]
        for job_id, _ in group:
            keys += [own.job(job_id), own.claim(job_id)]
        oldest = min((event.time for _, view in group for event in view.history), default=None)
        checkpoint: list[Argument] = [
            self.checkpoints.owner,
            "" if replayed else self.checkpoints.last(shard),
            "" if oldest is None else milliseconds_since_1970(oldest),
        ]
        head: list[Argument] = [own.index_prefix(shard), own.changes(shard), *self._lengths, *checkpoint]
        arguments = [argument for job_id, view in group for argument in self._arguments(job_id, view)]
        self._apply.add_to(pipe, keys, *head, *arguments)

    def _arguments(self, job_id: str, view: View) -> list[Argument]:
        cancel: list[Argument] = ["", ""]
        if view.cancel is not None:
            cancel = [cancel_key(view.cancel), render.render_cancel(view.cancel)]
        deleted_run = f"{view.deleted_run:04d}" if view.deleted_run else ""
        event = view.latest
        if event is None:
            return [job_id, *[""] * 11, *cancel, "", deleted_run, "", "", "", 0]
        within, error, ended = deadlines.report_within(event), event.job.error, event.job.finished_at
        return [
            job_id,
            event.sequence,
            event.job.type,
            str(event.status),
            "" if ended is None else milliseconds_since_1970(ended),
            render.render_state(event, retention=self._retention),
            render.render_hidden(event),
            render.render_evidence(event),
            "" if within is None else milliseconds(_remaining(within, event)),
            int(event.status.terminal and error is not None and error.kind == DEAD_LETTERED),
            milliseconds_since_1970(event.job.created_at),
            "" if event.lifecycle else history.write(event),
            *cancel,
            event.job.tenant,
            deleted_run,
            event.job.batch or "",
            render_summary(summarize(event, retention=self._retention)),
            milliseconds(self._live_for + GRACE) if is_waiting_end(event) else 0,
            len(view.history),
            *(argument for one in view.history for argument in (one.sequence, history.write(one))),
        ]

    async def outdated(self, latest: Mapping[str, str]) -> set[str]:
        def fill(pipe: Any) -> None:
            for job_id in latest:
                pipe.hget(self._keys.job(job_id), "sequence")

        with raising(StoreUnavailable):
            answers: list[bytes | None] = await execute(self._redis, fill)
        return {
            job_id
            for (job_id, sequence), applied in zip(latest.items(), answers, strict=True)
            if applied is None or applied < sequence.encode()
        }

    async def jobs(self, job_ids: Sequence[str]) -> list[KnownJob]:
        def fill(pipe: Any) -> None:
            for job_id in job_ids:
                pipe.hmget(self._keys.job(job_id), "state", "hidden", "status", "due", "cancel")

        with raising(StoreUnavailable):
            answers = await execute(self._redis, fill)
        stored = ((job_id, fields) for job_id, fields in zip(job_ids, answers, strict=True) if fields[0] is not None)
        return [known for job_id, fields in stored if (known := _readable_job(job_id, *fields)) is not None]

    async def attempts(self, job: Job) -> tuple[Attempt, ...]:
        _, ((run, attempts),) = await self._claims([job.id], "run", "attempts")
        if run != job.run or attempts is None:
            return ()
        try:
            return _ATTEMPTS.validate_json(attempts)[-MAX_LISTED_ATTEMPTS:]
        except ValidationError:
            self._unreadable_claims.log(job.id)
            return ()

    async def claim_state(self, command: Job) -> ClaimState:
        fields = ("run", "delivery", "state", "alive", "attempt", "execution", "outcome_id")
        at, (claim,) = await self._claims([command.id], *fields)
        run, delivery, state, alive, attempt, execution, outcome = claim
        if run is None or run < command.run:
            return ClaimState.WAITING
        if run > command.run or state == b"ended":
            return ClaimState.OVER
        if (alive or 0) > at or outcome is not None:
            return ClaimState.HELD
        follows = command.attempt > (attempt or 0) or command.execution.encode() == execution
        if state == b"put-back":
            return ClaimState.WAITING if follows else ClaimState.OVER
        return ClaimState.STARTED if delivery > command.quarantined else ClaimState.WAITING

    async def held(self, job_ids: Sequence[str]) -> set[str]:
        at, claims = await self._claims(job_ids, "alive")
        return {job_id for job_id, (alive,) in zip(job_ids, claims, strict=True) if (alive or 0) > at}

    async def _claims(self, job_ids: Sequence[str], *fields: str) -> tuple[int, list[Any]]:
        """Return the time of Redis (ms), and these fields of each job's claim: `None` for what no processor writes."""

        def fill(pipe: Any) -> None:
            pipe.time()
            for job_id in job_ids:
                self._claim_fields.add_to(pipe, [self._keys.claim(job_id)], *fields)

        with raising(StoreUnavailable):
            (seconds, _), *answers = await execute(self._redis, fill, self._claim_fields)
        for job_id, (unreadable, *_) in zip(job_ids, answers, strict=True):
            if unreadable:
                self._unreadable_claims.log(job_id)
        return seconds * 1000, [values for _, *values in answers]

    async def sweep(self) -> int:
        def ask(pipe: Any, shard: int) -> None:
            keys = [self._keys.expiry(shard), self._keys.deadline(shard)]
            prefixes = (self._keys.jobs_prefix(shard), self._keys.index_prefix(shard))
            self._sweep.add_to(pipe, keys, *prefixes, SWEEP_LIMIT, self._keys.changes(shard), milliseconds(GRACE))

        with raising(StoreUnavailable):
            return sum(await in_every_shard(self._redis, ask, self._sweep))

    async def overdue(self) -> list[str]:
        def ask(pipe: Any, shard: int) -> None:
            self._overdue.add_to(pipe, [self._keys.deadline(shard)], SWEEP_LIMIT, milliseconds(OVERDUE_LEASE))

        with raising(StoreUnavailable):
            overdue = await in_every_shard(self._redis, ask, self._overdue)
        return [job_id.decode() for found in overdue for job_id in found]


def _by_tag(views: Iterable[View]) -> Mapping[tuple[str, str], list[str]]:
    """Return the ids of the jobs with each tag of a tenant."""
    tagged: dict[tuple[str, str], list[str]] = defaultdict(list)
    for view in views:
        if view.latest is not None:
            for tag in view.latest.job.tags:
                tagged[view.latest.job.tenant, tag].append(view.latest.job.id)
    return tagged


def _remaining(within: timedelta, event: JobEvent) -> timedelta:
    """Subtract the event's age: it may come from the log. Not all of the age, because clocks differ."""
    age = now() - event.time - CLOCK_TOLERANCE
    return max(min(within, deadlines.REPORT_GRACE), within - max(timedelta(0), age))


def _readable_job(job_id: str, *fields: bytes | None) -> KnownJob | None:
    """Return a stored job; nothing if this release can't read it: it must not hide the others."""
    try:
        return _known_job(*fields)
    except ValueError as error:
        log.warning("stored_job_unreadable", job_id=job_id, error=str(error))
        return None


def _known_job(
    state: bytes | None, hidden: bytes | None, status: bytes | None, due: bytes | None, cancel: bytes | None
) -> KnownJob:
    assert state is not None and hidden is not None and status is not None  # noqa: S101, PT018 - written together
    job, at = render.read_job(state, hidden)
    return KnownJob(
        job=job,
        at=at,
        status=Status(status.decode()),
        due=datetime.fromtimestamp(int(due) / 1000, UTC) if due else None,
        cancel_at=datetime.fromisoformat(pydantic_core.from_json(cancel + b"}")["at"]) if cancel else None,
    )
