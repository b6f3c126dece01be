"""The topology and the Redis keys are data, so their guarantees are tested without a server."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import SUBMITTED

from milepost_contracts.http.webhooks import routing_key as webhook_key
from milepost_contracts.messages.delay_levels import LEVELS, MAX_DELAY, delay_words, first_level
from milepost_contracts.messages.former_bindings import former_bindings, former_work_bindings
from milepost_contracts.messages.job_events import JOB_EVENTS, REQUESTS
from milepost_contracts.messages.topology import Topology
from milepost_contracts.status.redis_keys import SHARDS, Keys, shard_of

TOPOLOGY = Topology(namespace="test")
EXCHANGES, DELAY_QUEUES = TOPOLOGY.exchanges, TOPOLOGY.delay_queues


def arguments(queue):
    return dict(queue.arguments)


QUEUES = (*TOPOLOGY.shared_queues, *TOPOLOGY.work_queues(["cpu", "default"]))


def matches(pattern, words):
    """Return whether a topic exchange routes these words to a binding of this pattern."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(matches(pattern[1:], words[skip:]) for skip in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and matches(pattern[1:], words[1:])


def is_bound(target, exchange, key):
    """Return whether the exchange routes the key to the target."""
    return any(
        exchange.kind == "fanout" or matches(binding.key.split("."), key.split("."))
        for binding in target.bindings
        if binding.exchange.name == exchange.name
    )


def routed(exchange, key, *, without=()):
    """Return the names of the queues that the broker routes a message to, if some queues do not exist.

    As RabbitMQ does it: along all bindings, and to the alternate exchange of each exchange that has none for the key.
    """
    by_name = {one.name: one for one in EXCHANGES}
    found, seen, ahead = set(), set(), [exchange.name]
    while ahead:
        at = by_name[ahead.pop()]
        if at.name in seen:
            continue
        seen.add(at.name)
        queues = [queue.name for queue in QUEUES if queue.name not in without and is_bound(queue, at, key)]
        onward = [one.name for one in EXCHANGES if is_bound(one, at, key)]
        if not queues and not onward and at.alternate is not None:
            onward = [at.alternate]
        found.update(queues)
        ahead += onward
    return {name.removeprefix("test.") for name in found}


def test_an_accepted_job_is_only_in_replicated_queues():
    """Law 1: a publisher confirm never depends on a classic queue."""
    for delay in (timedelta(0), timedelta(seconds=5)):
        queues = TOPOLOGY.accepting("cpu", first_level(delay))
        assert {"quorum", "stream"} == {arguments(queue)["x-queue-type"] for queue in queues}
        assert len(queues) == len({queue.name for queue in queues})
    assert TOPOLOGY.delay_queue(2) in queues


RECORDED = {"tracker.lifecycle", "log.jobs"}
SCHEDULED = "cpu.crunch." + delay_words(timedelta(seconds=5))
AT_ONCE = "cpu.crunch." + delay_words(timedelta(0))


@pytest.mark.parametrize(
    "key, queues",
    [
        ("job.submitted.cpu.crunch", {*RECORDED, "work.cpu"}),
        ("job.interrupted.cpu.crunch", {*RECORDED, "entry.cpu"}),
        ("job.quarantined.cpu.crunch", {*RECORDED, "entry.cpu"}),
        (f"job.scheduled.{SCHEDULED}", {*RECORDED, "level.02"}),
        (f"job.retrying.{SCHEDULED}", {*RECORDED, "level.02"}),
        (f"job.retrying.{AT_ONCE}", {*RECORDED, "entry.cpu"}),
        (f"job.postponed.{SCHEDULED}", {"level.02"}),
        (f"job.postponed-in-quarantine.{SCHEDULED}", {"level.02"}),
        ("job.started.cpu.crunch", RECORDED),
        ("job.succeeded.cpu.crunch", RECORDED),
        ("job.failed.cpu.crunch", RECORDED),
        ("job.canceled.cpu.crunch", RECORDED),
        ("job.cancel-requested.cpu.crunch", RECORDED),
        ("job.deleted.cpu.crunch", RECORDED),
        ("job.progressed.cpu.crunch", {"tracker.progress"}),
        ("processor.heartbeat", {"tracker.workers"}),
    ],
)
def test_one_publish_reaches_each_queue_that_needs_the_message(key, queues):
    """The view and the log have every lifecycle event; a command is also where it waits, and nowhere else."""
    exchange = TOPOLOGY.workers if key.startswith("processor") else TOPOLOGY.jobs
    assert queues == routed(exchange, key)
    assert queues == routed(TOPOLOGY.internal, key), "the private exchange reaches the same queues"


def test_every_event_is_covered_by_the_test_above():
    """A new event needs a place in the topology."""
    facts = {kind.fact for kind in (*JOB_EVENTS, *REQUESTS)}
    marks = test_one_publish_reaches_each_queue_that_needs_the_message.pytestmark
    assert facts <= {".".join(key.split(".")[:2]) for key, _ in marks[0].args[1]}


@pytest.mark.parametrize("key", ["job.submitted.cpu.crunch", f"job.retrying.{AT_ONCE}", "job.quarantined.cpu.crunch"])
def test_what_leaves_the_entry_queue_reaches_one_queue_of_its_job_queue(key):
    """It dead-letters to an exchange without an alternate, so what no queue takes stays in the entry queue."""
    target = "quarantine.cpu" if "quarantine" in key else "work.cpu"
    assert TOPOLOGY.commands.name == arguments(TOPOLOGY.entry_queue("cpu"))["x-dead-letter-exchange"]
    assert {target} == routed(TOPOLOGY.commands, key)
    assert set() == routed(TOPOLOGY.commands, key, without={f"test.{target}"})
    assert TOPOLOGY.commands.alternate is None


@pytest.mark.parametrize(
    "key, missing, instead",
    [
        ("job.submitted.cpu.crunch", {"work.cpu"}, "entry.cpu"),
        ("job.submitted.cpu.crunch", {"work.cpu", "entry.cpu"}, "unrouted"),
        ("job.interrupted.cpu.crunch", {"entry.cpu"}, "unrouted"),
        ("job.quarantined.cpu.crunch", {"entry.cpu"}, "unrouted"),
        (f"job.retrying.{SCHEDULED}", {"level.02"}, "unrouted"),
        (f"job.retrying.{AT_ONCE}", {"entry.cpu"}, "unrouted"),
        (f"job.postponed.{SCHEDULED}", {"level.02"}, "unrouted"),
        ("job.succeeded.cpu.crunch", RECORDED, "unrouted"),
    ],
)
def test_what_has_no_queue_is_kept(key, missing, instead):
    """A command whose queue is gone would be confirmed by the log alone, and never run."""
    assert instead in routed(TOPOLOGY.jobs, key, without={f"test.{name}" for name in missing})


def test_a_level_hands_on_what_the_next_one_can_not_take():
    """A dead-lettered message has the same ways as a published one: so none waits for a queue that is gone."""
    for queue in DELAY_QUEUES:
        after = next(one for one in EXCHANGES if one.name == arguments(queue)["x-dead-letter-exchange"])
        for key in (f"job.retrying.{SCHEDULED}", webhook_key(SUBMITTED, after=timedelta(seconds=5))):
            assert {"unrouted"} == routed(after, key, without={one.name for one in QUEUES} - {"test.unrouted"})


def test_the_queues_of_one_job_queue_receive_nothing_of_another():
    """One queue's trouble is its own."""
    facts = [*(f"{kind.fact}" for kind in JOB_EVENTS), "job.postponed", "job.postponed-in-quarantine"]
    for exchange in (TOPOLOGY.jobs, TOPOLOGY.entry, TOPOLOGY.commands):
        reached = set().union(*(routed(exchange, f"{fact}.{AT_ONCE}") for fact in facts))
        assert not [name for name in reached if name.endswith(".default")]


def test_only_the_public_exchanges_have_a_private_one():
    """After a refusal, a message is published to Milepost's own queues alone."""
    assert {TOPOLOGY.jobs, TOPOLOGY.workers} == {one for one in EXCHANGES if one.private is not None}
    assert {TOPOLOGY.internal.name} == {one.private for one in EXCHANGES} - {None}
    public = {TOPOLOGY.jobs.name, TOPOLOGY.workers.name}
    bound = {binding.exchange.name for queue in QUEUES for binding in queue.bindings}
    assert not public & bound, "no queue of Milepost hangs on an exchange of other teams"


def test_an_exchange_comes_after_those_that_feed_it():
    """They are declared in this order."""
    names = [one.name for one in EXCHANGES]
    for position, exchange in enumerate(EXCHANGES):
        assert {binding.exchange.name for binding in exchange.bindings} <= set(names[:position])
    assert len(names) == len(set(names))


def test_the_entry_queue_never_refuses():
    """What has waited passes it, and a refusal would hold up the delay levels, which all queues share."""
    assert TOPOLOGY.entry_queue("cpu").max_length is None
    assert TOPOLOGY.unrouted_queue.max_length is None
    assert TOPOLOGY.webhook_queue.max_length is None
    assert TOPOLOGY.work("cpu").max_length is not None


def test_republished_events_reach_only_the_log():
    """The view has them already, no processor may run their job again, and subscribers have received them."""
    assert {"log.jobs"} == routed(TOPOLOGY.republished, "")


@given(st.integers(0, 90 * 86_400))
def test_the_levels_of_a_message_add_up_to_its_delay(seconds):
    """Law 7: the test follows the bindings and dead-letter exchanges as the broker does."""
    key = f"job.retrying.cpu.crunch.{delay_words(timedelta(seconds=seconds))}"
    by_name = {queue.name: queue for queue in DELAY_QUEUES}
    at, waited = TOPOLOGY.delay_exchange(LEVELS - 1), 0
    while {"entry.cpu"} != (queues := routed(at, key)):
        (name,) = queues
        found = arguments(by_name[f"test.{name}"])
        waited += found["x-message-ttl"]
        at = next(one for one in EXCHANGES if one.name == found["x-dead-letter-exchange"])
    assert seconds * 1000 == waited


def test_the_longest_delay_fits_the_delay_levels():
    """The longest level fits RabbitMQ's TTL, which is 32 bits of milliseconds."""
    assert timedelta(days=90) == MAX_DELAY
    assert "1" in delay_words(MAX_DELAY)
    assert arguments(TOPOLOGY.delay_queues[-1])["x-message-ttl"] < 2**32
    assert delay_words(timedelta(seconds=1.2)) == delay_words(timedelta(seconds=2)), "a delay is rounded up"
    assert set("0.") == set(delay_words(timedelta(seconds=-5)))


def test_dead_lettering_is_at_least_once():
    """It needs quorum queues with `reject-publish`; otherwise dead-lettering could lose jobs."""
    for queue in (*TOPOLOGY.work_queues(["cpu"]), TOPOLOGY.lifecycle, *TOPOLOGY.delay_queues):
        found = arguments(queue)
        assert "quorum" == found["x-queue-type"]
        assert ("at-least-once", "reject-publish") == (found["x-dead-letter-strategy"], found["x-overflow"])
        assert queue.dead_letters
    assert "x-message-ttl" not in {*arguments(TOPOLOGY.dead_letter_queue), *arguments(TOPOLOGY.poison_queue)}


def test_queues_that_must_keep_every_message_have_no_delivery_limit():
    """RabbitMQ 4 has a default of 20 deliveries, and drops a message that has no dead-letter exchange."""
    for queue in (TOPOLOGY.lifecycle, TOPOLOGY.dead_letter_queue, TOPOLOGY.poison_queue, TOPOLOGY.unrouted_queue):
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
    key = webhook_key(SUBMITTED, after=after)
    assert len(key) <= 255
    first = first_level(after)
    assert {"tracker.webhooks" if first is None else f"level.{first:02d}"} == routed(TOPOLOGY.webhooks, key)
    assert {"tracker.webhooks"} == routed(TOPOLOGY.entry, key)


def test_bindings_of_the_former_topology_are_removed_and_are_none_of_this_one():
    """Else messages would arrive twice, or not at all."""
    now_bound = {
        (target.name, binding.exchange.name, binding.key)
        for target in (*QUEUES, *EXCHANGES)
        for binding in target.bindings
    }
    former = {*former_bindings(TOPOLOGY), *former_work_bindings(TOPOLOGY, ["cpu"])}
    assert not now_bound & {(one.to, one.exchange, one.key) for one in former}
    assert {"test.work.cpu", "test.quarantine.cpu", "test.tracker.lifecycle", "test.log.jobs", "test.delay.22"} <= {
        one.to for one in former
    }


def test_the_log_has_a_limit_unless_it_is_zero():
    """A log without one fills the broker's disk."""
    assert 10 * 1024**3 == dict(Topology().log.arguments)["x-max-length-bytes"]
    assert 5_000 == dict(Topology(log_max_bytes=5_000).log.arguments)["x-max-length-bytes"]
    assert "x-max-length-bytes" not in dict(Topology(log_max_bytes=0).log.arguments)
