"""The status view in Redis."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pydantic_core
from pydantic import TypeAdapter
from redis.asyncio import Redis

from milepost_contracts import document, steps
from milepost_contracts.envelope import now
from milepost_contracts.events import JobEvent
from milepost_contracts.keys import Keys, shard_of
from milepost_contracts.states import Status
from milepost_contracts.values import LAST_ATTEMPTS, Attempt, Job
from milepost_contracts.view import View, cancel_key
from milepost_tracker.ports import Applied, Known, Standing
from milepost_tracker.redis_calls import Script, execute, in_every_shard, milliseconds, or_unavailable
from milepost_tracker.watermarks import RedisWatermarks

GRACE = timedelta(days=1)
"""A job's hash outlives its time by this, so that a sweep still knows which indexes it is in."""
AT_ONCE = 100
PUT_OFF = timedelta(seconds=30)
"""How long an overdue job is left to whoever found it."""
CLOCKS_DIFFER = timedelta(hours=1)
"""By so much at most, where it would end a job."""

Argument = str | bytes | int
_ATTEMPTS = TypeAdapter(tuple[Attempt, ...])


def _ticks(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


class RedisStatusStore:
    """The status view, merged by `scripts/apply.lua`: one call for each shard that a batch touches."""

    def __init__(self, redis: Redis, keys: Keys, *, retention: timedelta, live_for: timedelta) -> None:
        self._redis = redis
        self._keys = keys
        self._retention = retention
        self._live_for = live_for
        self._lengths = [milliseconds(length) for length in (retention, live_for, GRACE)]
        scripts = (Script(name) for name in ("apply", "sweep", "overdue", "tagged"))
        self._apply, self._sweep, self._overdue, self._tagged = scripts
        self.watermarks = RedisWatermarks(redis, keys, lasts=live_for + GRACE)

    async def apply(self, views: Mapping[str, View], *, replayed: bool = False) -> Applied:
        by_shard: dict[int, list[tuple[str, View]]] = defaultdict(list)
        for job_id, view in views.items():
            by_shard[shard_of(job_id)].append((job_id, view))

        def fill(pipe: Any) -> None:
            for shard, group in by_shard.items():
                self._merge(pipe, shard, group, replayed=replayed)
            self._note_tags(pipe, views.values())

        answers = (await execute(self._redis, fill, self._apply, self._tagged))[: len(by_shard)]
        applied, lost = Applied(changed=0), dict[str, View]()
        for (shard, group), (mark, *told) in zip(by_shard.items(), answers, strict=True):
            if mark < 0:
                lost.update(group)
                continue
            if not replayed:
                self.watermarks.note(shard, mark)
            orphans = [job_id for (job_id, _), orphan in zip(group, told[1::2], strict=True) if orphan]
            applied += Applied(changed=sum(version > 0 for version in told[::2]), orphans=tuple(orphans))
        # A shard that has forgotten something is no reason to hold up the rest: the replay brings back what is missing.
        return applied + await self.apply(lost, replayed=True) if lost else applied

    def _note_tags(self, pipe: Any, views: Iterable[View]) -> None:
        """Say in the indexes of their tags that jobs have changed, and tell who listens; twice does no harm."""
        tagged: dict[tuple[str, str], list[str]] = defaultdict(list)
        for view in views:
            if view.latest is not None:
                for tag in view.latest.job.tags:
                    tagged[view.latest.job.tenant, tag].append(view.latest.job.id)
        for (tenant, tag), job_ids in tagged.items():
            self._tagged.call(pipe, [self._keys.tagged(tenant, tag)], milliseconds(self._retention), *job_ids)
            pipe.publish(self._keys.changes_of_tag(tenant, tag), " ".join(job_ids))

    def _merge(self, pipe: Any, shard: int, group: Sequence[tuple[str, View]], *, replayed: bool) -> None:
        own = self._keys
        keys = [own.expiry(shard), own.deadline(shard), own.mark(shard)]
        for job_id, _ in group:
            keys += [own.job(job_id), own.claim(job_id)]
        watermark: list[Argument] = [self.watermarks.owner, "" if replayed else self.watermarks.seen(shard)]
        head: list[Argument] = [own.index_prefix(shard), own.changes(shard), *self._lengths, *watermark]
        arguments = [argument for job_id, view in group for argument in self._arguments(job_id, view)]
        self._apply.call(pipe, keys, *head, *arguments)

    def _arguments(self, job_id: str, view: View) -> list[Argument]:
        cancel: list[Argument] = ["", ""]
        if view.cancel is not None:
            cancel = [cancel_key(view.cancel), document.render_cancel(view.cancel)]
        forgotten = f"{view.forgotten:04d}" if view.forgotten else ""
        event = view.latest
        if event is None:
            return [job_id, *[""] * 11, *cancel, "", forgotten, "", 0]
        patience, error = document.patience(event), event.job.error
        return [
            job_id,
            event.sequence,
            event.job.type,
            str(event.status),
            int(event.status.terminal),
            document.render_state(event, retention=self._retention),
            document.render_hidden(event),
            document.render_evidence(event),
            "" if patience is None else milliseconds(_left_of(patience, event)),
            int(event.status.terminal and error is not None and error.kind == document.GIVEN_UP),
            _ticks(event.job.created_at),
            "" if event.lifecycle else steps.kept(event),
            *cancel,
            event.job.tenant,
            forgotten,
            event.job.batch or "",
            len(view.steps),
            *(argument for step in view.steps for argument in (step.sequence, steps.kept(step))),
        ]

    async def outdated(self, latest: Mapping[str, str]) -> set[str]:
        def ask(pipe: Any) -> None:
            for job_id in latest:
                pipe.hget(self._keys.job(job_id), "sequence")

        answers: list[bytes | None] = await execute(self._redis, ask)
        return {
            job_id
            for (job_id, sequence), seen in zip(latest.items(), answers, strict=True)
            if seen is None or seen < sequence.encode()
        }

    async def known(self, job_ids: Sequence[str]) -> list[Known]:
        def ask(pipe: Any) -> None:
            for job_id in job_ids:
                pipe.hmget(self._keys.job(job_id), "state", "hidden", "status", "due", "cancel")

        answers = await execute(self._redis, ask)
        return [_known(*fields) for fields in answers if fields[0] is not None]

    async def untold_shards(self, every: timedelta) -> list[int]:
        told = await in_every_shard(self._redis, lambda pipe, shard: pipe.hget(self._keys.mark(shard), "retold"))
        latest = _ticks(now() - every)
        return [shard for shard, at in enumerate(told) if int(at or 0) <= latest]

    async def open_jobs(self, shard: int) -> AsyncIterator[Sequence[Known]]:
        for status in Status:
            if status.terminal:
                continue
            index, cursor = self._keys.everybodys(shard, status), -1
            while cursor:
                with or_unavailable():
                    scanned: Any = await self._redis.zscan(index, max(0, cursor), count=AT_ONCE)
                cursor, found = scanned
                yield await self.known([job_id.decode() for job_id, _ in found])

    async def note_told(self, shard: int) -> None:
        def note(pipe: Any) -> None:
            pipe.hset(self._keys.mark(shard), "retold", _ticks(now()))
            pipe.pexpire(self._keys.mark(shard), milliseconds(self._live_for + GRACE))

        await execute(self._redis, note)

    async def claimed(self, job: Job) -> tuple[Attempt, ...]:
        (found,) = await execute(self._redis, lambda pipe: pipe.hmget(self._keys.claim(job.id), "run", "attempts"))
        run, attempts = found
        if run is None or int(run) != job.run or attempts is None:
            return ()
        return _ATTEMPTS.validate_json(attempts)[-LAST_ATTEMPTS:]

    async def standing(self, command: Job) -> Standing:
        def ask(pipe: Any) -> None:
            pipe.hmget(self._keys.claim(command.id), "run", "turn", "state", "alive")
            pipe.time()

        (run, turn, state, alive), (seconds, _) = await execute(self._redis, ask)
        if run is None or int(run) < command.run:
            return Standing.WAITS
        if int(run) > command.run or state == b"ended":
            return Standing.OVER
        if int(alive or 0) > seconds * 1000:
            return Standing.HELD
        return Standing.STARTED if int(turn) > command.quarantined else Standing.WAITS

    async def sweep(self) -> int:
        def forget(pipe: Any, shard: int) -> None:
            keys = [self._keys.expiry(shard), self._keys.deadline(shard)]
            prefixes = (self._keys.jobs_prefix(shard), self._keys.index_prefix(shard))
            self._sweep.call(pipe, keys, *prefixes, AT_ONCE, self._keys.changes(shard))

        return sum(await in_every_shard(self._redis, forget, self._sweep))

    async def overdue(self) -> list[str]:
        def find(pipe: Any, shard: int) -> None:
            self._overdue.call(pipe, [self._keys.deadline(shard)], AT_ONCE, milliseconds(PUT_OFF))

        overdue = await in_every_shard(self._redis, find, self._overdue)
        return [job_id.decode() for found in overdue for job_id in found]


def _left_of(patience: timedelta, event: JobEvent) -> timedelta:
    """Take off the event's age: it may come from the log. Not all of it, for clocks differ."""
    age = now() - event.time - CLOCKS_DIFFER
    return max(min(patience, document.SPEAK_WITHIN), patience - max(timedelta(0), age))


def _known(
    state: bytes | None, hidden: bytes | None, status: bytes | None, due: bytes | None, cancel: bytes | None
) -> Known:
    assert state is not None and hidden is not None and status is not None  # noqa: S101, PT018 - written together
    job, at = document.told_of(state, hidden)
    return Known(
        job=job,
        at=at,
        status=Status(status.decode()),
        due=datetime.fromtimestamp(int(due) / 1000, UTC) if due else None,
        cancel_at=datetime.fromisoformat(pydantic_core.from_json(cancel + b"}")["at"]) if cancel else None,
    )
