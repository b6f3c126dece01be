"""The projectors, with a store in memory."""

from datetime import timedelta

import pytest
from samples import COUNT, ENDED, ID, SAMPLES
from trusted import TRUST, believed, received
from webhook_parts import FakeEventPublisher

from milepost_contracts.back_off import BackOff
from milepost_contracts.messages.job_events import JobEvent, JobSucceeded
from milepost_contracts.messages.worker_events import Announcement, ProcessorAnnounced, ProcessorHeartbeat
from milepost_contracts.status.merge import View, apply
from milepost_tracker import metrics
from milepost_tracker.core.projector import MAX_DECLARED, StatusProjector, WorkerProjector
from milepost_tracker.errors import StoreUnavailable
from milepost_tracker.ports.status_store import Applied

EVENTS = [sample for sample in SAMPLES if isinstance(sample, JobEvent)]
END = JobSucceeded(job=ENDED.model_copy(update={"callback_url": "https://example.com"}))


class FakeDelivery:
    queue = "test"

    def __init__(self, message, **changes):
        self.received = received(message, **changes)


class FakeStore:
    """Merges with the pure function; its first `away_for` calls fail."""

    def __init__(self, away_for=0):
        self.views = {}
        self.calls = 0
        self.recorded = []
        self.known = {}
        self.orphans = ()
        self.changed = None
        self.on_call = lambda: None
        self._away_for = away_for

    def _answer(self):
        self.calls += 1
        self.on_call()
        if self.calls <= self._away_for:
            raise StoreUnavailable("away")

    async def apply(self, views):
        self._answer()
        for job_id, view in views.items():
            self.views[job_id] = apply(self.views.get(job_id, View()), view.latest)
        return Applied(changed=len(views) if self.changed is None else self.changed, orphans=self.orphans)

    async def queues(self, job_types):
        return {name: queue for name, queue in self.known.items() if name in job_types}

    async def record(self, message):
        self._answer()
        self.recorded.append(message)


class FakeReaper:
    def __init__(self):
        self.canceled = []

    async def cancel(self, job_ids):
        self.canceled += job_ids


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("milepost_tracker.core.projector.BackOff", lambda: BackOff(0.0, 0.0))


async def test_a_batch_becomes_one_write():
    """However many events a batch has, the views are written in one call."""
    store = FakeStore()
    poison = await StatusProjector(TRUST, store, FakeReaper(), FakeEventPublisher()).project(
        [FakeDelivery(event) for event in EVENTS]
    )
    assert ([], 1) == (poison, store.calls)
    assert "succeeded" == store.views[ID].latest.status or "canceled" == store.views[ID].latest.status


async def test_an_unreadable_message_is_returned_and_the_rest_is_applied():
    """One unreadable message does not affect the rest of its batch."""
    store, bad = FakeStore(), FakeDelivery(b"garbage")
    poison = await StatusProjector(TRUST, store, FakeReaper(), FakeEventPublisher()).project(
        [bad, FakeDelivery(EVENTS[0])]
    )
    assert [bad] == [one.delivery for one in poison]
    assert poison[0].reason
    assert ID in store.views


async def test_a_batch_without_readable_messages_does_not_call_the_store():
    """There is nothing to write."""
    store = FakeStore(away_for=99)
    assert 2 == len(
        await StatusProjector(TRUST, store, FakeReaper(), FakeEventPublisher()).project(
            [FakeDelivery(b""), FakeDelivery(b"[]")]
        )
    )
    assert 0 == store.calls


async def test_a_batch_is_retried_until_the_store_is_available():
    """The call returns once the batch is stored; only then is it acknowledged."""
    store = FakeStore(away_for=3)
    await StatusProjector(TRUST, store, FakeReaper(), FakeEventPublisher()).project([FakeDelivery(EVENTS[0])])
    assert (4, {ID}) == (store.calls, set(store.views))


async def test_a_canceled_job_without_a_claim_is_ended():
    """Before the batch is acknowledged: if the tracker dies in between, the batch is redelivered and this repeated."""
    store, reaper = FakeStore(), FakeReaper()
    store.orphans = (ID,)
    await StatusProjector(TRUST, store, reaper, FakeEventPublisher()).project([FakeDelivery(EVENTS[0])])
    assert [ID] == reaper.canceled


async def test_the_end_of_a_job_with_a_callback_url_queues_one_webhook():
    """Before the batch is acknowledged. Events that are no end, and jobs without a callback URL, queue none."""
    ends = [event for event in EVENTS if event.status.terminal]
    with_callback = [
        event.model_copy(update={"job": event.job.model_copy(update={"callback_url": "https://example.com"})})
        for event in EVENTS
    ]
    publisher, batch = (
        FakeEventPublisher(),
        [FakeDelivery(event) for event in [*EVENTS, *with_callback * 2]],
    )
    assert [] == await StatusProjector(TRUST, FakeStore(), FakeReaper(), publisher).project(batch)
    assert {end.sequence for end in ends} == {end.sequence for end, *_ in publisher.published}
    assert len({end.sequence for end in ends}) == len(publisher.published)
    assert {(timedelta(0), 0, False)} == {tuple(how) for _, *how in publisher.published}


async def test_a_redelivered_end_queues_its_webhook_although_it_changes_nothing():
    """The tracker may have died between the write and the publish; the receiver removes duplicates by their id."""
    store, publisher = FakeStore(), FakeEventPublisher()
    store.changed = 0
    await StatusProjector(TRUST, store, FakeReaper(), publisher).project([FakeDelivery(END)])
    assert [believed(END)] == [end for end, *_ in publisher.published]


async def test_a_webhook_is_queued_once_its_end_is_in_the_view():
    """A receiver that reads the job's status finds the end."""
    store, publisher = FakeStore(away_for=1), FakeEventPublisher()
    store.on_call = lambda: published_before.append(list(publisher.published))
    published_before = []
    await StatusProjector(TRUST, store, FakeReaper(), publisher).project([FakeDelivery(END)])
    assert ([[], []], 1) == (published_before, len(publisher.published))


class FakeMessageRouter:
    def __init__(self):
        self.declared = []

    async def declare_soon(self, queues):
        self.declared.append(queues)


async def test_worker_events_are_recorded():
    """A job event in the workers' queue is returned as unreadable."""
    store = FakeStore(away_for=1)
    heartbeat = next(sample for sample in SAMPLES if isinstance(sample, ProcessorHeartbeat))
    poison = await WorkerProjector(TRUST, store, FakeMessageRouter()).project(
        [FakeDelivery(heartbeat), FakeDelivery(EVENTS[0])]
    )
    assert ([heartbeat], 1) == (store.recorded, len(poison))


async def test_a_type_is_taken_to_another_queue_only_by_a_user_who_may_serve_both():
    """One that may serve all queues may move it; a user of some queues may not take it away from another one."""
    store = FakeStore()
    store.known = {"count": "default"}
    announced = ProcessorAnnounced(
        announcement=Announcement(instance="gpu-team:x", types=(COUNT.model_copy(update={"queue": "gpu"}),))
    )
    (poison,) = await WorkerProjector(TRUST, store, FakeMessageRouter()).project(
        [FakeDelivery(announced, user_id="gpu-team")]
    )
    assert ("the user 'gpu-team' may not serve the queue default", []) == (poison.reason, store.recorded)
    assert [] == await WorkerProjector(TRUST, store, FakeMessageRouter()).project(
        [FakeDelivery(announced, user_id="processor")]
    )
    store.known = {"count": "images"}
    assert [] == await WorkerProjector(TRUST, store, FakeMessageRouter()).project(
        [FakeDelivery(announced, user_id="gpu-team")]
    )
    assert 2 == len(store.recorded)


async def test_a_type_stays_in_its_queue_though_redis_has_lost_it():
    """Otherwise whoever announces first after a loss takes it. The tracker knows what was announced to it."""
    store = FakeStore()
    projector = WorkerProjector(TRUST, store, FakeMessageRouter())
    rightful, stolen = (
        ProcessorAnnounced(
            announcement=Announcement(instance="gpu-team:x", types=(COUNT.model_copy(update={"queue": queue}),))
        )
        for queue in ("default", "gpu")
    )
    batch = [FakeDelivery(rightful, user_id="processor"), FakeDelivery(stolen, user_id="gpu-team")]
    assert [batch[1]] == [one.delivery for one in await projector.project(batch)]
    (poison,) = await projector.project([FakeDelivery(stolen, user_id="gpu-team")])
    assert ("the user 'gpu-team' may not serve the queue default", [rightful]) == (poison.reason, store.recorded)


async def test_a_refused_message_does_not_affect_the_rest_of_its_batch():
    """It is set aside alone, and counted; it publishes no webhook."""
    store, publisher = FakeStore(), FakeEventPublisher()
    bad = FakeDelivery(END, user_id="gateway")
    before = metrics.refused.labels(queue="test")._value.get()
    poison = await StatusProjector(TRUST, store, FakeReaper(), publisher).project([bad, FakeDelivery(EVENTS[0])])
    assert ([bad], [], 1) == ([one.delivery for one in poison], publisher.published, store.calls)
    assert before + 1 == metrics.refused.labels(queue="test")._value.get()


async def test_queues_that_processors_lack_are_declared_at_once():
    """Once for all processors that start together; nothing is declared for those that have their queues."""
    router = FakeMessageRouter()
    announced = [
        ProcessorAnnounced(announcement=Announcement(instance=name, types=(), missing_queues=queues))
        for name, queues in (("a", ("cpu", "gpu")), ("b", ("cpu",)), ("c", ()))
    ]
    projector = WorkerProjector(TRUST, FakeStore(), router)
    await projector.project([FakeDelivery(one) for one in announced])
    await projector.project([FakeDelivery(announced[-1])])
    assert [{"cpu", "gpu"}] == router.declared


async def test_an_event_that_can_not_be_applied_is_set_aside_alone(monkeypatch):
    """With the true reason; the rest of its batch is in the view, and the tracker goes on."""
    store, odd = FakeStore(), FakeDelivery(EVENTS[0])
    other = FakeDelivery(JobSucceeded(job=ENDED.model_copy(update={"id": "another"})))
    apply_views = store.apply

    async def fail_on_odd(views):
        if ID in views:
            raise OverflowError("odd")
        return await apply_views(views)

    monkeypatch.setattr(store, "apply", fail_on_odd)
    (poison,) = await StatusProjector(TRUST, store, FakeReaper(), FakeEventPublisher()).project([odd, other])
    assert (odd, "an error in the tracker: OverflowError: odd") == (poison.delivery, poison.reason)
    assert {"another"} == store.views.keys()


async def test_an_announcement_that_can_not_be_stored_is_set_aside_alone(monkeypatch):
    """The heartbeats behind it are recorded."""
    store = FakeStore()
    heartbeat = next(sample for sample in SAMPLES if isinstance(sample, ProcessorHeartbeat))
    odd = FakeDelivery(ProcessorAnnounced(announcement=Announcement(instance="x", types=(COUNT,))))
    record = store.record

    async def fail_on_odd(message):
        if isinstance(message, ProcessorAnnounced):
            raise TypeError("odd")
        await record(message)

    monkeypatch.setattr(store, "record", fail_on_odd)
    (poison,) = await WorkerProjector(TRUST, store, FakeMessageRouter()).project([odd, FakeDelivery(heartbeat)])
    assert (odd, [heartbeat]) == (poison.delivery, store.recorded)


async def test_one_announcement_has_a_limited_number_of_queues_declared():
    """A processor announces again what is missing still; each announcement has its share."""
    router = FakeMessageRouter()
    many, one = (
        ProcessorAnnounced(announcement=Announcement(instance="x", types=(), missing_queues=queues))
        for queues in (tuple(f"queue-{n}" for n in range(1_000)), ("cpu",))
    )
    await WorkerProjector(TRUST, FakeStore(), router).project([FakeDelivery(many), FakeDelivery(one)])
    assert [{"cpu", *many.announcement.missing_queues[:MAX_DECLARED]}] == router.declared
