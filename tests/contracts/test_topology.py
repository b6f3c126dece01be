"""Topology and keys are data: what they promise can be read off them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import SUBMITTED

from milepost_contracts.delay import LEVELS, MAX_DELAY, delay_words, first_level
from milepost_contracts.envelope import now
from milepost_contracts.events import (
    JOB_EVENTS,
    JobInterrupted,
    JobPostponed,
    JobQuarantined,
    JobRetrying,
    JobScheduled,
    JobSubmitted,
)
from milepost_contracts.keys import SHARDS, Keys, shard_of
from milepost_contracts.topology import Queue, Topology
from milepost_contracts.webhooks import routing_key

TOPOLOGY = Topology(namespace="test")
EXCHANGES, LADDER = TOPOLOGY.exchanges, TOPOLOGY.ladder


def arguments(queue):
    return dict(queue.arguments)


def takes(queue, routing_key):
    """Whether a topic exchange would route the key to the queue."""

    def matches(pattern, words):
        if not pattern:
            return not words
        if pattern[0] == "#":
            return any(matches(pattern[1:], words[skip:]) for skip in range(len(words) + 1))
        return bool(words) and pattern[0] in ("*", words[0]) and matches(pattern[1:], words[1:])

    return any(matches(binding.key.split("."), routing_key.split(".")) for binding in queue.bindings)


def test_an_accepted_job_lies_in_replicated_queues_only():
    """Law 1: no classic queue stands between a confirm and its promise."""
    for delay in (timedelta(0), timedelta(seconds=5)):
        queues = TOPOLOGY.accepting("cpu", first_level(delay))
        assert {"quorum", "stream"} == {arguments(queue)["x-queue-type"] for queue in queues}
    assert TOPOLOGY.delay_queue(2) in queues


@pytest.mark.parametrize("kind", JOB_EVENTS, ids=lambda kind: kind.fact)
def test_every_event_reaches_the_tracker_exactly_once(kind):
    """Lifecycle goes to the quorum queue and the log, progress to the bounded one."""
    key = f"{kind.fact}.cpu.crunch"
    assert kind.lifecycle == takes(TOPOLOGY.lifecycle, key) == takes(TOPOLOGY.log, key)
    assert kind.lifecycle != takes(TOPOLOGY.progress, key)


@pytest.mark.parametrize("kind", [*JOB_EVENTS, JobPostponed], ids=lambda kind: kind.fact)
def test_a_command_goes_where_it_waits_with_the_same_publish(kind):
    """At once to its own work queue or quarantine, or into the ladder; what else processors say is never work."""
    from_jobs = [binding for binding in TOPOLOGY.work("cpu").bindings if binding.exchange == TOPOLOGY.jobs]
    at_once = Queue(name="", bindings=tuple(from_jobs))
    assert (kind in (JobSubmitted, JobInterrupted)) == takes(at_once, f"{kind.fact}.cpu.crunch")
    assert (kind is JobQuarantined) == takes(TOPOLOGY.quarantine("cpu"), f"{kind.fact}.cpu.crunch")
    top = Queue(name="", bindings=TOPOLOGY.delay_exchange(LEVELS - 1).bindings)
    assert (kind in (JobScheduled, JobRetrying, JobPostponed)) == takes(top, f"{kind.fact}.cpu.crunch.0.1")
    after = Queue(name="", bindings=tuple(one for one in TOPOLOGY.work("cpu").bindings if one not in from_jobs))
    assert (kind in (JobScheduled, JobRetrying, JobPostponed)) == takes(after, f"{kind.fact}.cpu.crunch.0.1")
    assert not takes(TOPOLOGY.work("cpu"), f"{kind.fact}.default.crunch")
    assert not takes(TOPOLOGY.quarantine("cpu"), f"{kind.fact}.default.crunch")


def test_what_is_put_off_in_quarantine_comes_back_there_and_nowhere_else():
    """By way of the ladder like all that waits."""
    waits = JobPostponed(job=SUBMITTED.model_copy(update={"quarantined": 1, "run_at": now()}))
    key = waits.routing_key
    assert takes(Queue(name="", bindings=TOPOLOGY.delay_exchange(LEVELS - 1).bindings), key)
    assert takes(TOPOLOGY.quarantine(SUBMITTED.queue), key)
    assert not takes(TOPOLOGY.work(SUBMITTED.queue), key)


def test_what_is_told_again_reaches_the_log_alone():
    """The view has it already, nobody shall run it a second time, and who follows the events has heard of it."""
    queues = [*TOPOLOGY.shared_queues, *TOPOLOGY.work_queues([SUBMITTED.queue])]
    takes_it = [queue for queue in queues if TOPOLOGY.retold in (binding.exchange for binding in queue.bindings)]
    assert [TOPOLOGY.log] == takes_it
    assert not [one for one in TOPOLOGY.exchanges if TOPOLOGY.retold in (binding.exchange for binding in one.bindings)]


@given(st.integers(0, 90 * 86_400))
def test_a_message_waits_in_levels_that_add_up_to_its_delay(seconds):
    """Law 7: walked by the bindings and dead-letter exchanges as the broker would walk them."""
    key = f"job.retrying.cpu.crunch.{delay_words(timedelta(seconds=seconds))}"
    at, waited = TOPOLOGY.delay_exchange(LEVELS - 1).name, 0
    while at != TOPOLOGY.due.name:
        queues = [queue for queue in LADDER if bound(queue, at, key)]
        onward = [exchange.name for exchange in EXCHANGES if bound(exchange, at, key)]
        assert 1 == len(queues) + len(onward), "exactly one way leads on"
        if queues:
            found = arguments(queues[0])
            waited += found["x-message-ttl"]
            at = found["x-dead-letter-exchange"]
        else:
            (at,) = onward
    assert seconds * 1000 == waited
    assert bound(TOPOLOGY.work("cpu"), at, key)
    assert not bound(TOPOLOGY.work("default"), at, key)


def bound(target, exchange, key):
    """Whether this exchange hands the key to the target."""
    bindings = tuple(binding for binding in target.bindings if binding.exchange.name == exchange)
    return bool(bindings) and takes(Queue(name="", bindings=bindings), key)


def test_the_longest_delay_fits_the_ladder():
    """And the longest level fits what RabbitMQ takes as a TTL: 32 bits of milliseconds."""
    assert timedelta(days=90) == MAX_DELAY
    assert "1" in delay_words(MAX_DELAY)
    assert arguments(TOPOLOGY.ladder[-1])["x-message-ttl"] < 2**32
    assert delay_words(timedelta(seconds=1.2)) == delay_words(timedelta(seconds=2)), "never before its time"
    assert set("0.") == set(delay_words(timedelta(seconds=-5)))


def test_what_is_given_up_on_is_dead_lettered_at_least_once():
    """A source that may drop what it dead-letters would lose jobs: quorum, reject-publish, a length."""
    for queue in (TOPOLOGY.work("cpu"), TOPOLOGY.quarantine("cpu"), TOPOLOGY.lifecycle, *TOPOLOGY.ladder):
        found = arguments(queue)
        assert ("at-least-once", "reject-publish") == (found["x-dead-letter-strategy"], found["x-overflow"])
        assert found["x-max-length"] > 0
        assert queue.dead_letters
    assert "x-message-ttl" not in {*arguments(TOPOLOGY.parked), *arguments(TOPOLOGY.poison_queue)}


def test_what_nobody_may_give_up_has_no_limit():
    """RabbitMQ 4 has one of 20 deliveries where none is set, and drops what has nowhere to go."""
    for queue in (TOPOLOGY.lifecycle, TOPOLOGY.parked, TOPOLOGY.poison_queue):
        assert arguments(queue)["x-delivery-limit"] > 10**6


def test_progress_is_shed_first():
    """Law 8: its queue is bounded and drops its oldest, and nobody waits for it."""
    found = arguments(TOPOLOGY.progress)
    assert "drop-head" == found["x-overflow"]
    assert not TOPOLOGY.progress.dead_letters


def test_namespaces_share_nothing():
    """Two deployments on one broker and one Redis never meet."""
    one, other = Topology(namespace="one"), Topology(namespace="other")
    names = [
        {queue.name for queue in (*t.shared_queues, t.work("cpu"))} | {e.name for e in t.exchanges}
        for t in (one, other)
    ]
    assert not names[0] & names[1]
    assert Keys(namespace="one").job(SUBMITTED.id) != Keys(namespace="other").job(SUBMITTED.id)


@given(st.text(min_size=1, max_size=64))
def test_all_keys_of_a_job_share_a_slot(job_id):
    """Law 3: a batch of a shard is one call, on Redis Cluster too."""
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
        keys.everybodys(shard, "queued"),
        keys.mark(shard),
        keys.index_prefix(shard),
    ):
        assert tag in key
    assert keys.job(job_id) == keys.jobs_prefix(shard) + job_id


@pytest.mark.parametrize("after", [timedelta(0), timedelta(seconds=5), timedelta(hours=24)])
def test_a_webhook_goes_through_the_ladder_and_to_nobody_else(after):
    """At once if it has nothing to wait for; no work queue and no tracker of events takes it for something else."""
    key = routing_key(SUBMITTED, after=after)
    assert len(key) <= 255
    assert takes(Queue(name="", bindings=TOPOLOGY.delay_exchange(LEVELS - 1).bindings), key)
    assert takes(TOPOLOGY.webhook_queue, key)
    others = (TOPOLOGY.work("default"), TOPOLOGY.quarantine("default"), TOPOLOGY.lifecycle, TOPOLOGY.progress)
    assert not any(takes(queue, key) for queue in others)
