"""Topology and keys are data: what they promise can be read off them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import SUBMITTED

from milepost_contracts.events import JOB_EVENTS
from milepost_contracts.keys import SHARDS, Keys, shard_of
from milepost_contracts.topology import Topology

TOPOLOGY = Topology(namespace="test")


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
    kinds = {arguments(queue)["x-queue-type"] for queue in TOPOLOGY.accepting("cpu")}
    assert {"quorum", "stream"} == kinds


@pytest.mark.parametrize("kind", JOB_EVENTS, ids=lambda kind: kind.fact)
def test_every_event_reaches_the_tracker_exactly_once(kind):
    """Lifecycle goes to the quorum queue and the log, progress to the bounded one."""
    key = f"{kind.fact}.cpu.crunch"
    assert kind.lifecycle == takes(TOPOLOGY.lifecycle, key) == takes(TOPOLOGY.log, key)
    assert kind.lifecycle != takes(TOPOLOGY.progress, key)


@pytest.mark.parametrize("kind", JOB_EVENTS, ids=lambda kind: kind.fact)
def test_a_work_queue_takes_submissions_of_its_own_queue_alone(kind):
    """What other processors say never comes back as work."""
    assert ("job.submitted" == kind.fact) == takes(TOPOLOGY.work("cpu"), f"{kind.fact}.cpu.crunch")
    assert not takes(TOPOLOGY.work("cpu"), f"{kind.fact}.default.crunch")


def test_what_is_given_up_on_is_dead_lettered_at_least_once():
    """A source that may drop what it dead-letters would lose jobs: quorum, reject-publish, a length."""
    for queue in (TOPOLOGY.work("cpu"), TOPOLOGY.lifecycle):
        found = arguments(queue)
        assert ("at-least-once", "reject-publish") == (found["x-dead-letter-strategy"], found["x-overflow"])
        assert found["x-max-length"] > 0
        assert queue.dead_letters
    assert "x-message-ttl" not in arguments(TOPOLOGY.parked)


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
        keys.index_prefix(shard),
    ):
        assert tag in key
    assert keys.job(job_id) == keys.jobs_prefix(shard) + job_id
