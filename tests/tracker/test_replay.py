"""What Redis has forgotten comes back from the log."""

from datetime import UTC, datetime, timedelta

import pytest
from samples import ID, RUNNING, SUBMITTED

from milepost_contracts.envelope import encode
from milepost_contracts.events import CancelRequest, CancelRequested, JobStarted, JobSubmitted
from milepost_contracts.keys import shard_of
from milepost_tracker.errors import LogUnavailable
from milepost_tracker.ports import Applied, Page
from milepost_tracker.replay import MARGIN, Replayer

SHARD = shard_of(ID)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class FakeLog:
    def __init__(self, *batches):
        self.batches = batches
        self.asked = []
        self.away = False

    async def read(self, since):
        self.asked.append(since)
        for number, batch in enumerate(self.batches, 1):
            yield Page(bodies=batch, end=100 * number)
        if self.away:
            raise LogUnavailable("cut")


class FakeStore:
    def __init__(self):
        self.lost = {}
        self.views = {}
        self.audited = False
        self.marked = []
        self.concluded = []
        self.held_by_another = False
        self.forgets = False
        self.orphans = ()
        self.watermarks = self

    async def apply(self, views, *, replayed):
        assert replayed != self.audited, "a replay leaves the watermarks alone, and an audit does not"
        self.views.update(views)
        return Applied(changed=len(views), orphans=self.orphans)

    async def outdated(self, latest):
        self.audited = True
        return {job_id for job_id in latest if job_id not in self.views}

    async def lost_shards(self):
        return self.lost

    vouched = True

    async def vouch(self):
        return True

    async def begin_replay(self, shards):
        self.begun = set(shards)

    async def mark(self, shards):
        assert self.begun == set(shards)
        self.marked += shards
        self.lost = {}
        return not self.forgets

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
    return Replayer(store, source, conclude=store.conclude)


EVENTS = [encode(JobSubmitted(job=SUBMITTED)), encode(JobStarted(job=RUNNING))]
OTHER = encode(JobSubmitted(job=SUBMITTED.model_copy(update={"id": "elsewhere"})))


async def test_the_whole_log_is_applied_garbage_aside(store):
    """Only what wins is written."""
    done = await replayer(store, FakeLog([*EVENTS, b"garbage"], [OTHER])).replay(None)
    assert (4, 2) == (done.read, done.changed)
    assert "running" == store.views[ID].latest.status


async def test_only_the_shards_that_were_asked_for_are_touched(store):
    """The others have forgotten nothing."""
    await replayer(store, FakeLog([*EVENTS, OTHER])).replay(None, only={SHARD})
    assert {ID} == set(store.views)


@pytest.mark.parametrize(
    "lost, since",
    [
        ({SHARD: None}, None),
        ({SHARD: LONG_AGO}, LONG_AGO - MARGIN),
        ({SHARD: LONG_AGO, 5: LONG_AGO + timedelta(days=1)}, LONG_AGO - MARGIN),
        ({SHARD: LONG_AGO, 5: None}, None),
    ],
)
async def test_a_shard_that_lost_writes_is_replayed_from_where_it_still_is(store, lost, since):
    """All of the log where nothing is left; then it counts as whole again."""
    store.lost = lost
    log = FakeLog(EVENTS)
    assert await replayer(store, log)._heal()
    assert ([since], sorted(lost)) == (log.asked, sorted(store.marked))


async def test_nothing_lost_is_nothing_read(store):
    """A look costs no replay."""
    log = FakeLog(EVENTS)
    assert await replayer(store, log)._heal()
    assert [] == log.asked


async def test_one_tracker_replays_at_a_time(store):
    """The others wait until the shards are whole."""
    store.lost, store.held_by_another = {SHARD: None}, True
    log = FakeLog(EVENTS)
    assert not await replayer(store, log)._heal()
    assert [] == log.asked


async def test_a_replay_that_was_cut_off_marks_nothing(store):
    """Half a log is no view."""
    store.lost = {SHARD: None}
    log = FakeLog(EVENTS)
    log.away = True
    with pytest.raises(LogUnavailable):
        await replayer(store, log)._heal()
    assert [] == store.marked


async def test_what_is_forgotten_again_meanwhile_is_replayed_again(store):
    """A second loss during a replay must not be certified as whole."""
    store.lost, store.forgets = {SHARD: None}, True
    assert not await replayer(store, FakeLog(EVENTS))._heal()


async def test_a_cancel_that_only_the_log_knew_of_is_concluded(store):
    """Nobody else may ever speak of that job."""
    store.orphans = (ID,)
    await replayer(store, FakeLog(EVENTS)).replay(None)
    assert [ID] == store.concluded


async def test_an_audit_writes_what_the_view_lacks_and_reads_nothing_twice(store):
    """What has come to the tracker's queue is in the view already; the next audit goes on where this one ended."""
    log = FakeLog(EVENTS, [OTHER])
    one = replayer(store, log)
    store.views["elsewhere"] = None
    await one._audit()
    assert (None, "running") == (store.views["elsewhere"], store.views[ID].latest.status)
    await one._audit()
    assert 1 == len(log.asked), "not so soon again"
    one._audited = LONG_AGO
    await one._audit()
    assert 200 == log.asked[1]
    one._audited = LONG_AGO
    one.again()
    await one._audit()
    assert log.asked[2] < LONG_AGO, "over a new connection, all since the last one, by the time"


async def test_an_audit_tells_every_step_of_what_the_view_lacks(store):
    """Whoever listens hears how the job came there."""
    await replayer(store, FakeLog(EVENTS))._audit()
    assert ["job.submitted", "job.started"] == [step.fact for step in store.views[ID].steps]


async def test_a_connection_that_is_new_while_an_audit_runs_is_not_forgotten(store):
    """What that audit read may be another log's."""
    log = FakeLog(EVENTS)
    one = replayer(store, log)
    outdated = store.outdated

    async def connected_anew(latest):
        one.again()
        return await outdated(latest)

    store.outdated = connected_anew
    await one._audit()
    assert (None, True) == (one._place, one._soon)


async def test_an_audit_takes_every_wish(store):
    """Wishes have no sequence, so that nobody can tell whether the view knows them."""
    store.views[ID] = None
    wish = CancelRequest(job_id=ID, type="digest-files", queue="default", run=1, requested_at=LONG_AGO)
    await replayer(store, FakeLog([*EVENTS, encode(CancelRequested(request=wish))]))._audit()
    assert wish == store.views[ID].cancel
