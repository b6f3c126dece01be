"""Restores what Redis has lost: the log has all lifecycle events, and the merge law accepts them in any order."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import AnyJobMessage
from milepost_contracts.messages.trust import Trust
from milepost_contracts.status.merge import RawMessages, by_job, merge
from milepost_contracts.status.redis_keys import shard_of
from milepost_tracker import metrics
from milepost_tracker.core.projector import FAULTS, until_stored
from milepost_tracker.errors import EventLogUnavailable, StoreUnavailable
from milepost_tracker.ports.event_log import EventLog
from milepost_tracker.ports.status_store import StatusStore

log = structlog.get_logger(__name__)

Conclude = Callable[[Sequence[str]], Awaitable[None]]

LOCK_RENEWAL_INTERVAL = 5.0
"""Seconds between two renewals of the lock that lets one tracker replay."""
CHECKPOINT_INTERVAL = 1.0
"""Seconds between two checks of the checkpoints."""
REPLAY_MARGIN = timedelta(hours=1)
"""A replay begins this long before the last checkpoint: an event may be in the log long before it is applied."""
MIN_AUDIT_PERIOD = timedelta(minutes=2)
"""An audit that begins at a time covers at least this, and a new server is caught up from this long before its last
event: an event is applied a little after it was published, and clocks differ."""
AUDIT_INTERVAL = timedelta(seconds=30)
"""How often the new part of the log is compared with the view: an event may never have reached the tracker's queue."""
AUDIT_OVERLAP = timedelta(seconds=30)
"""It also begins this long before the last one: clocks differ, and all events in a chunk of the log share one time."""
WRITE_BATCH_SIZE = 500


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """The result of a replay."""

    #: Messages of the log that were read.
    read: int
    #: Views that changed.
    changed: int
    #: The offset at which the next replay can begin.
    end: int


class Replayer:
    """Applies the log to the view; safe at any time, beside live traffic."""

    def __init__(self, trust: Trust, store: StatusStore, source: EventLog, *, conclude: Conclude) -> None:
        """Prepare.

        Args:
            trust: Decides which messages of the log are believed.
            store: The view.
            source: The log.
            conclude: Ends jobs with a cancel request that no processor has.
        """
        self._decode = trust.job_message
        self._store = store
        self._checkpoints = store.checkpoints
        self._log = source
        self._conclude = conclude
        #: Whether every shard is known to be complete.
        self.complete = False
        #: When the last finished audit began, and the offset where it ended, if the log is still the same.
        self._audited: datetime | None = None
        self._offset: int | None = None
        #: Whether the next audit is due at once.
        self._soon = True
        #: The Redis server that has all that the log holds, though it may not be confirmed yet.
        self._caught_up = ""

    async def replay(
        self,
        since: datetime | int | None,
        *,
        only: Collection[int] | None = None,
        live: bool = False,
        so_far: Callable[[Replayed], None] = lambda _: None,
    ) -> Replayed:
        """Apply the log.

        Args:
            since: An offset, or an approximate time; `None` for the beginning of the log.
            only: The shards to replay; all by default.
            live: Whether the shards are complete: then only what the view lacks is written, and the checkpoints rise.
            so_far: Called with the result so far, after each page.

        Raises:
            EventLogUnavailable: It can't be read to its end now.
        """
        done = Replayed(read=0, changed=0, end=0)
        async for page in self._log.read(since):
            changed = done.changed
            jobs = {job: raw for job, raw in by_job(page.messages).items() if only is None or shard_of(job) in only}
            if live:  # streams send each missing event, and not only the latest
                events = [
                    event for raw in (await self._missing(jobs)).values() for event in raw.all_readable(self._decode)
                ]
            else:
                events = [event for raw in jobs.values() for event in raw.winning(self._decode)]
            for at in range(0, len(events), WRITE_BATCH_SIZE):
                changed += await self._apply(events[at : at + WRITE_BATCH_SIZE], live=live)
            done = Replayed(read=done.read + len(page.messages), changed=changed, end=page.end)
            so_far(done)
        return done

    async def _apply(self, events: Sequence[AnyJobMessage], *, live: bool) -> int:
        """Apply events, and return how many views changed. One that can't be applied is left out alone."""
        try:
            applied = await until_stored(lambda: self._store.apply(merge(events), replayed=not live))
        except FAULTS:
            if len(events) == 1:
                log.exception("event_not_applied", job_id=events[0].subject)
                return 0
            return sum([await self._apply([event], live=live) for event in events])
        if applied.orphans:
            await self._conclude(applied.orphans)
        return applied.changed

    async def _missing(self, jobs: Mapping[str, RawMessages]) -> dict[str, RawMessages]:
        """Return the messages that the view may lack; in an audit, it has most of them already."""
        latest = {job_id: raw.latest for job_id, raw in jobs.items() if raw.events}
        outdated = await until_stored(lambda: self._store.outdated(latest)) if latest else set()
        return {job_id: raw for job_id, raw in jobs.items() if job_id in outdated or raw.requests}

    def audit_soon(self) -> None:
        """Make the next audit due at once, from a time: events may have been lost, and the log may be a new one."""
        self._offset, self._soon = None, True

    async def watch(self, wait_up: Callable[[], Awaitable[None]]) -> None:
        """Check the checkpoints, and replay the shards that have lost writes, until cancelled.

        `wait_up` returns once the log can be read.
        """
        while True:
            await wait_up()
            try:
                self.complete = await self._restore()
                if self.complete:
                    await self._audit()
            except (StoreUnavailable, EventLogUnavailable) as error:
                self.complete = False
                self.audit_soon()
                log.warning("replay_postponed", error=str(error))
            await asyncio.sleep(CHECKPOINT_INTERVAL)

    async def _audit(self) -> None:
        """Apply the part of the log since the last audit, if that was long enough ago; usually nothing changes."""
        begun, last = now(), self._audited
        if last is not None and not self._soon and begun - last < AUDIT_INTERVAL:
            return
        recent = begun - MIN_AUDIT_PERIOD if last is None else min(begun - MIN_AUDIT_PERIOD, last - AUDIT_OVERLAP)
        done = await self._apply_missing(recent if self._offset is None else self._offset)
        if done.changed:
            log.info("audited", read=done.read, changed=done.changed)

    async def _apply_missing(self, since: datetime | int | None) -> Replayed:
        """Apply what the view lacks of the log, and let the next audit begin behind it."""
        begun, self._soon = now(), False
        done = await self.replay(since, live=True)
        self._audited = begun
        if not self._soon:  # otherwise the log may be a new one by now
            self._offset = done.end
        return done

    async def _restore(self) -> bool:
        """Replay the shards that have lost writes; return whether all shards are complete."""
        lost = await self._checkpoints.lost_shards()
        if lost:
            return await self._replay_lost(lost) and await self._restore()
        if not self._checkpoints.confirmed:
            # Other trackers object if the server lacks their writes. Those that have ended can't.
            await self._catch_up()
        return await self._checkpoints.confirm_complete()

    async def _catch_up(self) -> None:
        """Apply all that a new server may lack: it may have been started from an old snapshot."""
        server, until = self._checkpoints.server, self._checkpoints.applied_until
        if server == self._caught_up:
            return
        since = None if until is None else min(until, now()) - MIN_AUDIT_PERIOD
        log.warning("server_not_confirmed", since=since and since.isoformat())
        done = await self._apply_missing(since)
        log.info("caught_up", read=done.read, changed=done.changed)
        self._caught_up = server

    async def _replay_lost(self, lost: Mapping[int, datetime | None]) -> bool:
        """Replay shards; return whether all of them are complete now."""
        if not await self._checkpoints.hold_replay():
            return False  # another tracker replays
        times = list(lost.values())
        since = None if None in times else min(time for time in times if time is not None) - REPLAY_MARGIN
        log.warning("writes_lost", shards=len(lost), since=since and since.isoformat())
        metrics.replays.inc()
        holding = asyncio.create_task(self._hold())
        try:
            await self._checkpoints.begin_replay(lost.keys())
            done = await self.replay(since, only=lost.keys())
        finally:
            holding.cancel()
        complete = await self._checkpoints.mark_complete(lost.keys())
        await self._checkpoints.end_replay()
        log.info("replayed", read=done.read, changed=done.changed, shards=len(lost), complete=complete)
        return complete

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(LOCK_RENEWAL_INTERVAL)
            await until_stored(self._checkpoints.hold_replay)
