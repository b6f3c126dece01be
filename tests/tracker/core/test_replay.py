"""The replay and the audit: the tracker restores from the event log what Redis has lost."""

from datetime import UTC, datetime, timedelta

import pytest
from samples import ID, RUNNING, SUBMITTED
from trusted import TRUST, received

from milepost_contracts.messages.job_events import CancelRequest, CancelRequested, JobStarted, JobSubmitted
from milepost_contracts.status.redis_keys import shard_of
from milepost_tracker.core.replay import MIN_AUDIT_PERIOD, REPLAY_MARGIN, Replayer
from milepost_tracker.errors import EventLogUnavailable
from milepost_tracker.ports.event_log import LogPage
from milepost_tracker.ports.status_store import Applied

SHARD = shard_of(ID)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class FakeLog:
    def __init__(self, *batches):
        self.batches = batches
        self.reads = []
        self.unavailable = False

    async def read(self, since):
        self.reads.append(since)
        for number, batch in enumerate(self.batches, 1):
            yield LogPage(messages=batch, end=100 * number)
        if self.unavailable:
            raise EventLogUnavailable("cut")


class FakeStore:
    def __init__(self):
        self.lost = {}
        self.views = {}
        self.audited = False
        self.marked = []
        self.concluded = []
        self.held_by_another = False
        self.loses_again = False
        self.orphans = ()
        self.checkpoints = self

    async def apply(self, views, *, replayed):
        assert replayed != self.audited, "a replay leaves the checkpoints alone, and an audit does not"
        self.audited = False
        self.views.update(views)
        return Applied(changed=len(views), orphans=self.orphans)

    async def outdated(self, latest):
        self.audited = True
        return {job_id for job_id in latest if job_id not in self.views}

    async def lost_shards(self):
        return self.lost

    confirmed, server, applied_until = True, "one", None

    async def confirm_complete(self):
        return True

    async def begin_replay(self, shards):
        self.begun = set(shards)

    async def mark_complete(self, shards):
        assert self.begun == set(shards)
        self.marked += shards
        self.lost = {}
        return not self.loses_again

    async def conclude(self, job_ids):
        self.concluded += job_ids

    async def hold_replay(self):
        return not self.held_by_another

    async def end_replay(self):
        pass


@pytest.fixture
def store():
    return FakeStore()


def replayer(store, source):
    return Replayer(TRUST, store, source, conclude=store.conclude)


EVENTS = [received(JobSubmitted(job=SUBMITTED)), received(JobStarted(job=RUNNING))]
OTHER = received(JobSubmitted(job=SUBMITTED.model_copy(update={"id": "elsewhere"})))


async def test_the_complete_log_is_applied_and_unreadable_messages_are_skipped(store):
    """Only the latest state of each job is written."""
    done = await replayer(store, FakeLog([*EVENTS, received(b"garbage")], [OTHER])).replay(None)
    assert (4, 2) == (done.read, done.changed)
    assert "running" == store.views[ID].latest.status


async def test_only_the_requested_shards_are_written(store):
    """The other shards have lost nothing."""
    await replayer(store, FakeLog([*EVENTS, OTHER])).replay(None, only={SHARD})
    assert {ID} == set(store.views)


@pytest.mark.parametrize(
    "lost, since",
    [
        ({SHARD: None}, None),
        ({SHARD: LONG_AGO}, LONG_AGO - REPLAY_MARGIN),
        ({SHARD: LONG_AGO, 5: LONG_AGO + timedelta(days=1)}, LONG_AGO - REPLAY_MARGIN),
        ({SHARD: LONG_AGO, 5: None}, None),
    ],
)
async def test_a_shard_is_replayed_from_its_last_complete_time(store, lost, since):
    """If nothing is left, from the start of the log; then the shard is marked as complete."""
    store.lost = lost
    log = FakeLog(EVENTS)
    assert await replayer(store, log)._restore()
    assert ([since], sorted(lost)) == (log.reads, sorted(store.marked))


@pytest.mark.parametrize(
    "until, since", [(LONG_AGO, LONG_AGO - MIN_AUDIT_PERIOD), (None, None)], ids=["known", "not known"]
)
async def test_a_new_server_is_confirmed_once_the_log_was_applied_from_its_last_event_on(store, until, since):
    """It may have been started from an old snapshot; no living tracker need know what is missing."""
    store.confirmed, store.applied_until = False, until
    log = FakeLog(EVENTS)
    one = replayer(store, log)
    one._offset = 100  # of the audits before: they wrote to the other server
    assert await one._restore()
    assert ([since], "running") == (log.reads, store.views[ID].latest.status)
    assert await one._restore()
    assert 1 == len(log.reads), "once is enough, while other trackers may object"
    store.server = "two"
    assert await one._restore()
    assert [since, since] == log.reads, "another failover"


async def test_a_new_server_is_not_confirmed_while_the_log_cannot_be_read(store):
    """What it lacks is not known."""
    store.confirmed = False
    log = FakeLog(EVENTS)
    log.unavailable = True
    one = replayer(store, log)
    for _ in range(2):
        with pytest.raises(EventLogUnavailable):
            await one._restore()


async def test_shards_without_a_finding_are_caught_up_after_the_others_were_replayed(store):
    """A tracker finds only its own writes missing; those of trackers that have ended are missing too."""
    store.confirmed, store.applied_until, store.lost = False, LONG_AGO, {SHARD: LONG_AGO}
    log = FakeLog(EVENTS)
    assert await replayer(store, log)._restore()
    assert [LONG_AGO - REPLAY_MARGIN, LONG_AGO - MIN_AUDIT_PERIOD] == log.reads


async def test_without_a_loss_the_log_is_not_read(store):
    """A check without a finding starts no replay."""
    log = FakeLog(EVENTS)
    assert await replayer(store, log)._restore()
    assert [] == log.reads


async def test_one_tracker_replays_at_a_time(store):
    """The others wait until the shards are complete."""
    store.lost, store.held_by_another = {SHARD: None}, True
    log = FakeLog(EVENTS)
    assert not await replayer(store, log)._restore()
    assert [] == log.reads


async def test_an_interrupted_replay_marks_no_shard_as_complete(store):
    """A part of the log does not restore the view."""
    store.lost = {SHARD: None}
    log = FakeLog(EVENTS)
    log.unavailable = True
    with pytest.raises(EventLogUnavailable):
        await replayer(store, log)._restore()
    assert [] == store.marked


async def test_a_loss_during_a_replay_is_replayed_again(store):
    """The shard must not be marked as complete."""
    store.lost, store.loses_again = {SHARD: None}, True
    assert not await replayer(store, FakeLog(EVENTS))._restore()


async def test_a_cancel_request_found_only_in_the_log_is_concluded(store):
    """No later event may arrive for that job."""
    store.orphans = (ID,)
    await replayer(store, FakeLog(EVENTS)).replay(None)
    assert [ID] == store.concluded


async def test_an_audit_writes_only_missing_jobs_and_continues_where_the_last_one_ended(store):
    """Events that came through the tracker's queue are in the view already."""
    log = FakeLog(EVENTS, [OTHER])
    one = replayer(store, log)
    store.views["elsewhere"] = None
    await one._audit()
    assert (None, "running") == (store.views["elsewhere"], store.views[ID].latest.status)
    await one._audit()
    assert 1 == len(log.reads), "no second audit within the interval"
    one._audited = LONG_AGO
    await one._audit()
    assert 200 == log.reads[1]
    one._audited = LONG_AGO
    one.audit_soon()
    await one._audit()
    assert log.reads[2] < LONG_AGO, "after a reconnect, it reads by time, from the last audit on"


async def test_an_audit_restores_the_history_of_a_missing_job(store):
    """Readers of the stream receive all of the job's lifecycle events."""
    await replayer(store, FakeLog(EVENTS))._audit()
    assert ["job.submitted", "job.started"] == [step.fact for step in store.views[ID].history]


async def test_a_reconnect_during_an_audit_causes_another_audit(store):
    """The offset that this audit reached may belong to another log."""
    log = FakeLog(EVENTS)
    one = replayer(store, log)
    outdated = store.outdated

    async def reconnect(latest):
        one.audit_soon()
        return await outdated(latest)

    store.outdated = reconnect
    await one._audit()
    assert (None, True) == (one._offset, one._soon)


async def test_an_audit_applies_every_cancel_request(store):
    """Requests have no sequence, so it is unknown whether the view has them."""
    store.views[ID] = None
    request = CancelRequest(job_id=ID, type="digest-files", queue="default", run=1, requested_at=LONG_AGO)
    await replayer(store, FakeLog([*EVENTS, received(CancelRequested(request=request))]))._audit()
    assert request == store.views[ID].cancel


async def test_an_event_that_can_not_be_applied_does_not_end_a_replay(monkeypatch):
    """It is left out alone: otherwise every tracker would end at it, again after each start."""
    store, odd = FakeStore(), SUBMITTED.model_copy(update={"id": "odd"})
    apply = store.apply

    async def fail_on_odd(views, **options):
        if "odd" in views:
            raise ValueError("odd")
        return await apply(views, **options)

    monkeypatch.setattr(store, "apply", fail_on_odd)
    log = FakeLog([received(JobSubmitted(job=odd)), received(JobSubmitted(job=SUBMITTED))])
    done = await Replayer(TRUST, store, log, conclude=store.conclude).replay(None)
    assert (2, 1, {ID}) == (done.read, done.changed, store.views.keys())
