"""The tracker's core, with a store in memory."""

from datetime import timedelta

import pytest
from samples import ID, SAMPLES
from webhook_parts import FakeOutbox

from milepost_contracts.envelope import encode
from milepost_contracts.events import JobEvent, encode_event
from milepost_contracts.fleet import ProcessorBeat
from milepost_contracts.view import View, apply
from milepost_tracker.errors import StoreUnavailable
from milepost_tracker.ports import Applied
from milepost_tracker.projector import BACK_OFF, FleetProjector, StatusProjector

EVENTS = [sample for sample in SAMPLES if isinstance(sample, JobEvent)]


class FakeDelivery:
    queue = "test"

    def __init__(self, body):
        self.body = body


class FakeStore:
    """Folds with the pure function, and is away for a while first."""

    def __init__(self, away_for=0):
        self.views = {}
        self.calls = 0
        self.recorded = []
        self.orphans = ()
        self._away_for = away_for

    def _answer(self):
        self.calls += 1
        if self.calls <= self._away_for:
            raise StoreUnavailable("away")

    async def apply(self, views):
        self._answer()
        for job_id, view in views.items():
            self.views[job_id] = apply(self.views.get(job_id, View()), view.latest)
        return Applied(changed=len(views), orphans=self.orphans)

    async def record(self, message):
        self._answer()
        self.recorded.append(message)


class FakeVerdicts:
    def __init__(self):
        self.canceled = []

    async def cancel(self, job_ids):
        self.canceled += job_ids


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("milepost_tracker.projector.BACK_OFF", (0.0, 0.0))
    assert BACK_OFF != (0.0, 0.0)


async def test_a_batch_becomes_one_write():
    """However many events a job has in a batch, its view is written once."""
    store = FakeStore()
    poison = await StatusProjector(store, FakeVerdicts(), FakeOutbox()).project(
        [FakeDelivery(encode_event(event)) for event in EVENTS]
    )
    assert ([], 1) == (poison, store.calls)
    assert "succeeded" == store.views[ID].latest.status or "canceled" == store.views[ID].latest.status


async def test_poison_is_singled_out_and_the_rest_goes_on():
    """One bad message never holds back or takes along its batch."""
    store, bad = FakeStore(), FakeDelivery(b"garbage")
    poison = await StatusProjector(store, FakeVerdicts(), FakeOutbox()).project(
        [bad, FakeDelivery(encode_event(EVENTS[0]))]
    )
    assert [bad] == [one.delivery for one in poison]
    assert poison[0].reason
    assert ID in store.views


async def test_a_batch_of_poison_alone_touches_no_store():
    """Nothing to write is not written."""
    store = FakeStore(away_for=99)
    assert 2 == len(
        await StatusProjector(store, FakeVerdicts(), FakeOutbox()).project([FakeDelivery(b""), FakeDelivery(b"[]")])
    )
    assert 0 == store.calls


async def test_a_store_that_is_away_is_waited_for():
    """The batch returns once it is stored: only then is it acknowledged."""
    store = FakeStore(away_for=3)
    await StatusProjector(store, FakeVerdicts(), FakeOutbox()).project([FakeDelivery(encode_event(EVENTS[0]))])
    assert (4, {ID}) == (store.calls, set(store.views))


async def test_a_canceled_job_that_nobody_has_is_ended():
    """Before the batch is acknowledged: a tracker that dies in between is followed by one that does it again."""
    store, verdicts = FakeStore(), FakeVerdicts()
    store.orphans = (ID,)
    await StatusProjector(store, verdicts, FakeOutbox()).project([FakeDelivery(encode_event(EVENTS[0]))])
    assert [ID] == verdicts.canceled


async def test_the_end_of_a_job_with_a_callback_is_put_on_its_way_once():
    """Before the batch is acknowledged; of what is no end, or has no callback, nobody is told."""
    ends = [event for event in EVENTS if event.status.terminal]
    with_callback = [
        event.model_copy(update={"job": event.job.model_copy(update={"callback_url": "https://example.com"})})
        for event in EVENTS
    ]
    outbox, batch = FakeOutbox(), [FakeDelivery(encode_event(event)) for event in [*EVENTS, *with_callback * 2]]
    assert [] == await StatusProjector(FakeStore(), FakeVerdicts(), outbox).project(batch)
    assert {end.sequence for end in ends} == {end.sequence for end, *_ in outbox.told}
    assert len({end.sequence for end in ends}) == len(outbox.told)
    assert {(timedelta(0), 0, False)} == {tuple(how) for _, *how in outbox.told}


async def test_what_processors_say_is_recorded():
    """And a job's event on the fleet's queue is poison there."""
    store = FakeStore(away_for=1)
    beat = next(sample for sample in SAMPLES if isinstance(sample, ProcessorBeat))
    poison = await FleetProjector(store).project([FakeDelivery(encode(beat)), FakeDelivery(encode(EVENTS[0]))])
    assert ([beat], 1) == (store.recorded, len(poison))
