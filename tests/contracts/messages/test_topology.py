"""The topology and the Redis keys are data, so their guarantees are tested without a server."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import SUBMITTED

from milepost_contracts.clock import now
from milepost_contracts.http.webhooks import routing_key
from milepost_contracts.messages.delay_levels import LEVELS, MAX_DELAY, delay_words, first_level
from milepost_contracts.messages.job_events import (
    JOB_EVENTS,
    JobInterrupted,
    JobPostponed,
    JobQuarantined,
    JobRetrying,
    JobScheduled,
    JobSubmitted,
)
from milepost_contracts.messages.topology import Queue, Topology
from milepost_contracts.status.redis_keys import SHARDS, Keys, shard_of

TOPOLOGY = Topology(namespace="test")
EXCHANGES, DELAY_QUEUES = TOPOLOGY.exchanges, TOPOLOGY.delay_queues


def arguments(queue):
    return dict(queue.arguments)


def is_routed_to(queue, routing_key):
    """Return whether a topic exchange routes the key to the queue."""

    def matches(pattern, words):
        if not pattern:
            return not words
        if pattern[0] == "#":
            return any(matches(pattern[1:], words[skip:]) for skip in range(len(words) + 1))
        return bool(words) and pattern[0] in ("*", words[0]) and matches(pattern[1:], words[1:])

    return any(matches(binding.key.split("."), routing_key.split(".")) for binding in queue.bindings)


def test_an_accepted_job_is_only_in_replicated_queues():
    """Law 1: a publisher confirm never depends on a classic queue."""
    for delay in (timedelta(0), timedelta(seconds=5)):
        queues = TOPOLOGY.accepting("cpu", first_level(delay))
        assert {"quorum", "stream"} == {arguments(queue)["x-queue-type"] for queue in queues}
    assert TOPOLOGY.delay_queue(2) in queues


@pytest.mark.parametrize("kind", JOB_EVENTS, ids=lambda kind: kind.fact)
def test_every_event_reaches_the_tracker_exactly_once(kind):
    """Lifecycle events go to the quorum queue and the log, progress goes to the bounded queue."""
    key = f"{kind.fact}.cpu.crunch"
    assert kind.lifecycle == is_routed_to(TOPOLOGY.lifecycle, key) == is_routed_to(TOPOLOGY.log, key)
    assert kind.lifecycle != is_routed_to(TOPOLOGY.progress, key)


@pytest.mark.parametrize("kind", [*JOB_EVENTS, JobPostponed], ids=lambda kind: kind.fact)
def test_one_publish_routes_a_command_to_its_queue(kind):
    """It goes to the work queue, the quarantine queue or the delay levels; other events go to none of them."""
    job_bindings = [binding for binding in TOPOLOGY.work("cpu").bindings if binding.exchange == TOPOLOGY.jobs]
    at_once = Queue(name="", bindings=tuple(job_bindings))
    assert (kind in (JobSubmitted, JobInterrupted)) == is_routed_to(at_once, f"{kind.fact}.cpu.crunch")
    assert (kind is JobQuarantined) == is_routed_to(TOPOLOGY.quarantine("cpu"), f"{kind.fact}.cpu.crunch")
    top = Queue(name="", bindings=TOPOLOGY.delay_exchange(LEVELS - 1).bindings)
    assert (kind in (JobScheduled, JobRetrying, JobPostponed)) == is_routed_to(top, f"{kind.fact}.cpu.crunch.0.1")
    when_due = Queue(name="", bindings=tuple(one for one in TOPOLOGY.work("cpu").bindings if one not in job_bindings))
    assert (kind in (JobScheduled, JobRetrying, JobPostponed)) == is_routed_to(when_due, f"{kind.fact}.cpu.crunch.0.1")
    assert not is_routed_to(TOPOLOGY.work("cpu"), f"{kind.fact}.default.crunch")
    assert not is_routed_to(TOPOLOGY.quarantine("cpu"), f"{kind.fact}.default.crunch")


def test_a_job_that_is_postponed_in_quarantine_returns_only_there():
    """It waits in the delay levels like other jobs."""
    postponed = JobPostponed(job=SUBMITTED.model_copy(update={"quarantined": 1, "run_at": now()}))
    key = postponed.routing_key
    assert is_routed_to(Queue(name="", bindings=TOPOLOGY.delay_exchange(LEVELS - 1).bindings), key)
    assert is_routed_to(TOPOLOGY.quarantine(SUBMITTED.queue), key)
    assert not is_routed_to(TOPOLOGY.work(SUBMITTED.queue), key)


def test_republished_events_reach_only_the_log():
    """The view has them already, no processor may run their job again, and subscribers have received them."""
    queues = [*TOPOLOGY.shared_queues, *TOPOLOGY.work_queues([SUBMITTED.queue])]
    targets = [queue for queue in queues if TOPOLOGY.republished in (binding.exchange for binding in queue.bindings)]
    assert [TOPOLOGY.log] == targets
    assert not [
        one for one in TOPOLOGY.exchanges if TOPOLOGY.republished in (binding.exchange for binding in one.bindings)
    ]


@given(st.integers(0, 90 * 86_400))
def test_the_levels_of_a_message_add_up_to_its_delay(seconds):
    """Law 7: the test follows the bindings and dead-letter exchanges as the broker does."""
    key = f"job.retrying.cpu.crunch.{delay_words(timedelta(seconds=seconds))}"
    at, waited = TOPOLOGY.delay_exchange(LEVELS - 1).name, 0
    while at != TOPOLOGY.due.name:
        queues = [queue for queue in DELAY_QUEUES if is_bound(queue, at, key)]
        onward = [exchange.name for exchange in EXCHANGES if is_bound(exchange, at, key)]
        assert 1 == len(queues) + len(onward), "exactly one binding matches"
        if queues:
            found = arguments(queues[0])
            waited += found["x-message-ttl"]
            at = found["x-dead-letter-exchange"]
        else:
            (at,) = onward
    assert seconds * 1000 == waited
    assert is_bound(TOPOLOGY.work("cpu"), at, key)
    assert not is_bound(TOPOLOGY.work("default"), at, key)


def is_bound(target, exchange, key):
    """Return whether the exchange routes the key to the target."""
    bindings = tuple(binding for binding in target.bindings if binding.exchange.name == exchange)
    return bool(bindings) and is_routed_to(Queue(name="", bindings=bindings), key)


def test_the_longest_delay_fits_the_delay_levels():
    """The longest level fits RabbitMQ's TTL, which is 32 bits of milliseconds."""
    assert timedelta(days=90) == MAX_DELAY
    assert "1" in delay_words(MAX_DELAY)
    assert arguments(TOPOLOGY.delay_queues[-1])["x-message-ttl"] < 2**32
    assert delay_words(timedelta(seconds=1.2)) == delay_words(timedelta(seconds=2)), "a delay is rounded up"
    assert set("0.") == set(delay_words(timedelta(seconds=-5)))


def test_dead_lettering_is_at_least_once():
    """It needs quorum queues with `reject-publish` and a maximum length; otherwise dead-lettering could lose jobs."""
    for queue in (TOPOLOGY.work("cpu"), TOPOLOGY.quarantine("cpu"), TOPOLOGY.lifecycle, *TOPOLOGY.delay_queues):
        found = arguments(queue)
        assert ("at-least-once", "reject-publish") == (found["x-dead-letter-strategy"], found["x-overflow"])
        assert found["x-max-length"] > 0
        assert queue.dead_letters
    assert "x-message-ttl" not in {*arguments(TOPOLOGY.dead_letter_queue), *arguments(TOPOLOGY.poison_queue)}


def test_queues_that_must_keep_every_message_have_no_delivery_limit():
    """RabbitMQ 4 has a default of 20 deliveries, and drops a message that has no dead-letter exchange."""
    for queue in (TOPOLOGY.lifecycle, TOPOLOGY.dead_letter_queue, TOPOLOGY.poison_queue):
        assert arguments(queue)["x-delivery-limit"] > 10**6


def test_progress_is_dropped_first_under_load():
    """Law 8: its queue is bounded and drops its oldest messages, and no publisher waits for it."""
    found = arguments(TOPOLOGY.progress)
    assert "drop-head" == found["x-overflow"]
    assert not TOPOLOGY.progress.dead_letters


def test_namespaces_share_nothing():
    """Two deployments can use one broker and one Redis."""
    one, other = Topology(namespace="one"), Topology(namespace="other")
    names = [
        {queue.name for queue in (*t.shared_queues, t.work("cpu"))} | {e.name for e in t.exchanges}
        for t in (one, other)
    ]
    assert not names[0] & names[1]
    assert Keys(namespace="one").job(SUBMITTED.id) != Keys(namespace="other").job(SUBMITTED.id)


@given(st.text(min_size=1, max_size=64))
def test_all_keys_of_a_job_share_a_slot(job_id):
    """Law 3: a batch of one shard is one call, on Redis Cluster too."""
    keys, shard = Keys(), shard_of(job_id)
    assert 0 <= shard < SHARDS
    tag = f"{{s{shard:03d}}}"
    for key in (
        keys.job(job_id),
        keys.claim(job_id),
        keys.expiry(shard),
        keys.changes(shard),
        keys.deadline(shard),
        keys.dead(shard, tenant="default"),
        keys.all_tenants(shard, "queued"),
        keys.checkpoint(shard),
        keys.index_prefix(shard),
    ):
        assert tag in key
    assert keys.job(job_id) == keys.jobs_prefix(shard) + job_id


@pytest.mark.parametrize("after", [timedelta(0), timedelta(seconds=5), timedelta(hours=24)])
def test_a_webhook_is_routed_only_through_the_delay_levels_to_its_queue(after):
    """Without a delay it passes them at once; no work queue and no queue of the tracker receives it."""
    key = routing_key(SUBMITTED, after=after)
    assert len(key) <= 255
    assert is_routed_to(Queue(name="", bindings=TOPOLOGY.delay_exchange(LEVELS - 1).bindings), key)
    assert is_routed_to(TOPOLOGY.webhook_queue, key)
    others = (TOPOLOGY.work("default"), TOPOLOGY.quarantine("default"), TOPOLOGY.lifecycle, TOPOLOGY.progress)
    assert not any(is_routed_to(queue, key) for queue in others)
