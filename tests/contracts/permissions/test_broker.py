"""What users may do at RabbitMQ, as patterns. With a broker: tests/integration/test_rabbitmq_permissions.py."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost_contracts.messages.delay_levels import LEVELS
from milepost_contracts.messages.job_events import JOB_EVENTS, REQUESTS, JobPostponed
from milepost_contracts.messages.topology import Topology
from milepost_contracts.permissions import broker
from milepost_contracts.permissions.users import deployment_users, user_settings

TOPOLOGY = Topology(namespace="acme")
WORDS = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8})?", fullmatch=True)
FACTS = sorted({*broker.GATEWAY_FACTS, *broker.PROCESSOR_FACTS, *(event.fact for event in JOB_EVENTS)})


def permits(permissions, exchange, key):
    """Return whether a key may be published, as RabbitMQ finds out."""
    if not re.search(permissions.write, exchange):
        return False
    topic = next((one for one in permissions.topics if one.exchange == exchange), None)
    return topic is None or bool(re.search(topic.write, key))


@given(fact=st.sampled_from(FACTS), queue=WORDS, own=st.lists(WORDS, min_size=1, max_size=3), job_type=WORDS)
def test_a_processor_publishes_outcomes_of_its_own_queues_only(fact, queue, own, job_type):
    """Whatever the names are: none is taken for a part of another one."""
    permissions = broker.processor(TOPOLOGY, own)
    key = f"{fact}.{queue}.{job_type}"
    allowed = fact in broker.PROCESSOR_FACTS and queue in own
    assert allowed == permits(permissions, "acme.jobs", key)
    assert allowed == permits(permissions, "acme.internal", key)


@given(queue=WORDS, own=st.lists(WORDS, min_size=1, max_size=3))
def test_a_processor_consumes_its_own_queues_only(queue, own):
    """Work and quarantine queues of these names, of this namespace."""
    permissions = broker.processor(TOPOLOGY, own)
    for name in (TOPOLOGY.work_queue_name(queue), TOPOLOGY.quarantine_queue_name(queue)):
        assert (queue in own) == bool(re.search(permissions.read, name))
    assert not re.search(permissions.read, Topology(namespace="other").work_queue_name(queue))


@pytest.mark.parametrize("role", ["gateway", "processor", "team"])
def test_nobody_but_the_tracker_declares_or_deletes_what_is_in_the_topology(role):
    """Queues of job queues included."""
    permissions = {
        "gateway": broker.gateway(TOPOLOGY),
        "processor": broker.processor(TOPOLOGY),
        "team": broker.team(TOPOLOGY, "billing"),
    }[role]
    names = [one.name for one in (*TOPOLOGY.exchanges, *TOPOLOGY.shared_queues, *TOPOLOGY.work_queues(["cpu"]))]
    assert [] == [name for name in names if re.search(permissions.configure, name)]
    assert all(re.search(broker.tracker(TOPOLOGY).configure, name) for name in names)


def test_each_fact_has_a_publisher():
    """A new event must be permitted to somebody: a gateway, a processor or a tracker."""
    by_tracker = {"job.quarantined"}
    known = {event.fact for event in (*JOB_EVENTS, *REQUESTS, JobPostponed)}
    assert known == {*broker.GATEWAY_FACTS, *broker.PROCESSOR_FACTS, *by_tracker} - {"job.postponed-in-quarantine"}


def test_a_gateway_publishes_to_no_delay_level():
    """It may only count what waits there: the exchanges have the same names as the queues."""
    key = f"job.scheduled.cpu.x{'.1' * LEVELS}"
    assert permits(broker.gateway(TOPOLOGY), "acme.jobs", key)
    assert not any(
        permits(broker.gateway(TOPOLOGY), TOPOLOGY.delay_exchange(level).name, key) for level in range(LEVELS)
    )


def test_a_team_may_bind_only_its_keys():
    """The same text, not what it would match: `job.#` is not within `job.succeeded.#`."""
    topic = broker.team(TOPOLOGY, "billing", ["job.succeeded.#"]).topics[0]
    assert re.search(topic.read, "job.succeeded.#")
    for key in ("#", "job.#", "job.succeeded.cpu.#", "job.*.#", "xjob.succeeded.#"):
        assert not re.search(topic.read, key)


@pytest.mark.parametrize(
    "processors, teams",
    [
        ({}, {"acme": None}),
        ({}, {"amq": None}),
        ({}, {"acme-tracker": None}),
        ({"acme-gateway": ("cpu",)}, {}),
        ({"default": ("cpu",)}, {}),
        ({"gateway": ("cpu",)}, {}),
        ({"x": ("cpu",)}, {"x": None}),
    ],
)
def test_a_further_user_takes_no_name_that_means_something(processors, teams):
    """A team of the namespace's name could do all that the tracker may."""
    with pytest.raises(ValueError, match="is taken"):
        deployment_users("acme", processors=processors, teams=teams)


@pytest.mark.parametrize(
    "key",
    [
        *(
            "#",
            "job.#",
            "job.*.*.*",
            "*.succeeded.#",
            "job.failed.cpu.crunch",
            "job.*.cpu.#",
            "#.crunch",
            "processor.*",
        ),
        f"job.scheduled.*.*{'.*' * LEVELS}",
    ],
)
def test_a_binding_key_that_fits_an_event_is_accepted(key):
    """A team may bind some events, or all."""
    assert deployment_users("acme", teams={"billing": (key,)})


@pytest.mark.parametrize(
    "key",
    [
        *("", "job", "*", "job.succeeded", "job.sucess.#", "jobs.#", "job.*", "job.succeeded.cpu", "job.scheduled.*.*"),
        *("job.succeeded.cpu.crunch.more", "job..#", "job.*.A.#", "processor.started"),
    ],
)
def test_a_binding_key_that_fits_no_event_is_refused(key):
    """A typing error would be found when the events are missed."""
    with pytest.raises(ValueError, match="no event fits the binding key"):
        deployment_users("acme", teams={"billing": (key,)})


def test_the_settings_name_the_users_of_each_service():
    """With the queues of those processors that may not serve all."""
    users = deployment_users("acme", processors={"gpu-team": ("images", "gpu")}, teams={"billing": None})
    assert {
        "MILEPOST_GATEWAY_USERS": "acme-gateway",
        "MILEPOST_TRACKER_USERS": "acme-tracker",
        "MILEPOST_PROCESSOR_USERS": "acme-processor,gpu-team:gpu+images",
    } == user_settings(users)
