"""Brings back what Redis has forgotten: the log has all lifecycle events, and the merge law takes them in any order."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from milepost_contracts.envelope import now
from milepost_contracts.keys import shard_of
from milepost_contracts.view import Told, by_job, merge
from milepost_tracker import metrics
from milepost_tracker.errors import LogUnavailable, StoreUnavailable
from milepost_tracker.ports import Log, StatusStore
from milepost_tracker.projector import until_stored

log = structlog.get_logger(__name__)

Conclude = Callable[[Sequence[str]], Awaitable[None]]

LOOK_EVERY = 1.0
"""Seconds between two looks at the watermarks."""
MARGIN = timedelta(hours=1)
"""An event may have been in the log for so long before it was applied, and lost again."""
RECENT = timedelta(minutes=2)
"""What a tracker that starts, or connects anew, replays in any case: Redis and all trackers may have ended at once."""
AUDIT_EVERY = timedelta(seconds=30)
"""How often what the log got is held against the view: an event may never have come to the tracker's queue."""
OVERLAP = timedelta(seconds=30)
"""An audit by the time begins so long before the last one did: clocks differ, and what lies together has one time."""
WRITES_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a replay did."""

    #: How many messages of the log were read.
    read: int
    #: How many views it changed.
    changed: int
    #: Where the log went on behind it.
    end: int


class Replayer:
    """Applies what the log holds to the view; harmless at any time, beside live traffic."""

    def __init__(self, store: StatusStore, source: Log, *, conclude: Conclude) -> None:
        """Prepare.

        Args:
            store: The view.
            source: What to replay.
            conclude: Ends jobs that are to be canceled and that nobody has.
        """
        self._store = store
        self._watermarks = store.watermarks
        self._log = source
        self._conclude = conclude
        #: Whether every shard is known to be whole.
        self.whole = False
        #: When the last audit that came to its end began, and the place where it ended, if that is still one.
        self._audited: datetime | None = None
        self._place: int | None = None
        #: Whether the next audit is due at once.
        self._soon = True

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
            since: From this place, or from about this time on; all of it by default.
            only: These shards; all by default.
            live: Whether the shards are whole: what the view has is not written again, and the watermarks stand for
                what is.
            so_far: Called with what was done so far, now and then.

        Raises:
            LogUnavailable: It can't be read to its end now.
        """
        done = Replayed(read=0, changed=0, end=0)
        async for page in self._log.read(since):
            changed = done.changed
            told = {job: one for job, one in by_job(page.bodies).items() if only is None or shard_of(job) in only}
            if live:  # readers are told each step of what is missing, and not only where it led to
                events = [event for one in (await self._news(told)).values() for event in one.every()]
            else:
                events = [event for one in told.values() for event in one.won()]
            for at in range(0, len(events), WRITES_AT_ONCE):
                views = merge(events[at : at + WRITES_AT_ONCE])
                applied = await until_stored(lambda views=views: self._store.apply(views, replayed=not live))  # type: ignore[misc]
                changed += applied.changed
                if applied.orphans:
                    await self._conclude(applied.orphans)
            done = Replayed(read=done.read + len(page.bodies), changed=changed, end=page.end)
            so_far(done)
        return done

    async def _news(self, told: Mapping[str, Told]) -> dict[str, Told]:
        """Return what the view may not have: most of what is audited, it has."""
        latest = {job_id: one.latest for job_id, one in told.items() if one.events}
        outdated = await until_stored(lambda: self._store.outdated(latest)) if latest else set()
        return {job_id: one for job_id, one in told.items() if job_id in outdated or one.wishes}

    def again(self) -> None:
        """Audit at once, and by the time: events may have been lost on their way here, and a log may be another one."""
        self._place, self._soon = None, True

    async def watch(self, wait_up: Callable[[], Awaitable[None]]) -> None:
        """Heal until cancelled: look at the watermarks, and replay the shards that have forgotten something.

        `wait_up` returns once the log is there to be read.
        """
        while True:
            await wait_up()
            try:
                self.whole = await self._heal()
                if self.whole:
                    await self._audit()
            except (StoreUnavailable, LogUnavailable) as error:
                self.whole = False
                self.again()
                log.warning("replay_put_off", error=str(error))
            await asyncio.sleep(LOOK_EVERY)

    async def _audit(self) -> None:
        """Apply what the log got since the last audit, if that was long enough ago: mostly, nothing changes."""
        begun, last = now(), self._audited
        if last is not None and not self._soon and begun - last < AUDIT_EVERY:
            return
        self._soon = False
        recent = begun - RECENT if last is None else min(begun - RECENT, last - OVERLAP)
        done = await self.replay(recent if self._place is None else self._place, live=True)
        self._audited = begun
        if not self._soon:  # else what was read may be another log's by now
            self._place = done.end
        if done.changed:
            log.info("audited", read=done.read, changed=done.changed)

    async def _heal(self) -> bool:
        """Return whether all shards are whole."""
        lost = await self._watermarks.lost_shards()
        if not lost:
            if not self._watermarks.vouched:
                # What others wrote and this server lacks, they will say; what is recent is brought back anyway.
                self._soon = True
                await self._audit()
            return await self._watermarks.vouch()
        if not await self._watermarks.hold_replay():
            return False  # another tracker is at it
        times = list(lost.values())
        since = None if None in times else min(time for time in times if time is not None) - MARGIN
        log.warning("writes_lost", shards=len(lost), since=since and since.isoformat())
        metrics.replays.inc()
        holding = asyncio.create_task(self._hold())
        try:
            await self._watermarks.begin_replay(lost.keys())
            done = await self.replay(since, only=lost.keys())
        finally:
            holding.cancel()
        whole = await self._watermarks.mark(lost.keys())
        await self._watermarks.end_replay()
        log.info("replayed", read=done.read, changed=done.changed, shards=len(lost), whole=whole)
        return whole

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(5)
            await until_stored(self._watermarks.hold_replay)
