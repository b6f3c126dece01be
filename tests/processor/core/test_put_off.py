"""Jobs that a processor can't run and another one may: they wait for it, without an attempt or a counted delivery."""

from dataclasses import replace
from datetime import timedelta

import pytest
from odd_handlers import REGISTRY
from pydantic import BaseModel, ConfigDict
from samples import AT, SUBMITTED

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import (
    COMMANDS,
    JobInterrupted,
    JobPostponed,
    JobQuarantined,
    JobRetrying,
    JobScheduled,
    JobSubmitted,
    decode_event,
    encode_event,
)
from milepost_contracts.status.deadlines import start_by
from milepost_contracts.values import MAX_STATED_DELIVERY, PutOff
from milepost_processor.core.handlers import Handlers
from milepost_processor.core.put_off import PUT_OFF_LIMIT, Eligibility, given_back
from milepost_processor.core.runner import Delivery
from milepost_processor.core.secret_params import ParamsOpener
from milepost_service.sealing import Sealer

NAME = "sync"
OWN_VERSION = REGISTRY.definitions[NAME].announcement().version
LATER = now() + timedelta(minutes=10)
FIRST = Delivery(count=0)


@pytest.fixture
def eligibility():
    return Eligibility(REGISTRY, ParamsOpener(REGISTRY, Sealer()), delivery_limit=3)


def put_off(eligibility, job, delivery=FIRST, kind=JobSubmitted):
    return eligibility.put_off(kind(job=job), delivery, eligibility.obstacle(job))


def test_a_job_of_a_served_type_has_no_obstacle(eligibility):
    """Its own processor validates the params, whichever version of the type the gateway knew."""
    for version in (None, OWN_VERSION):
        job = SUBMITTED.model_copy(update={"type": NAME, "type_version": version, "params": {"do": 1}})
        assert eligibility.obstacle(job) is None


def test_params_are_an_obstacle_only_if_they_were_checked_against_another_version(eligibility):
    """If this version accepts them too, the job runs here."""
    other = SUBMITTED.model_copy(update={"type": NAME, "type_version": "other", "params": {"do": 1}})
    assert "string" in eligibility.obstacle(other).refusal
    assert eligibility.obstacle(other.model_copy(update={"params": {}})) is None


def test_a_schema_that_can_not_be_used_is_no_obstacle():
    """The consumer of its queue must go on; the handler's own model validates the params."""

    class Unusable(BaseModel):
        model_config = ConfigDict(json_schema_extra={"$ref": "http://127.0.0.1:1/elsewhere.json"})

    served = Handlers({NAME: replace(REGISTRY.definitions[NAME], params=Unusable)})
    job = SUBMITTED.model_copy(update={"type": NAME, "type_version": "other"})
    assert Eligibility(served, ParamsOpener(served, Sealer()), delivery_limit=3).obstacle(job) is None


def test_a_job_of_another_processors_type_waits_a_second_for_it(eligibility):
    """A second is the shortest delay that the broker has."""
    postponed = put_off(eligibility, SUBMITTED)
    assert timedelta(seconds=0.9) < postponed.delay <= timedelta(seconds=1)
    assert postponed.routing_key.endswith(".0.1")
    assert postponed == decode_event(encode_event(postponed))


def test_the_delay_grows_with_the_time_for_which_nobody_could_run_the_job(eligibility):
    """Up to half a minute: a large backlog of such jobs must not keep the broker busy."""
    delays = []
    for seconds in (2, 40, 290):
        since = now() - timedelta(seconds=seconds)
        job = SUBMITTED.model_copy(update={"put_off": PutOff(since=since, until=AT)})
        delays.append(round(put_off(eligibility, job).delay.total_seconds()))
    assert [1, 10, 30] == delays


def test_a_job_that_is_put_off_too_long_goes_to_the_dead_letter_handler(eligibility):
    """The tracker knows whether a live processor can run it."""
    since = now() - PUT_OFF_LIMIT - timedelta(seconds=1)
    job = SUBMITTED.model_copy(update={"put_off": PutOff(since=since, until=AT)})
    assert put_off(eligibility, job) is None


def test_a_job_over_the_delivery_limit_is_not_put_off(eligibility):
    """It killed its workers, or is held by the dead-letter handler: that must not be forgotten."""
    assert put_off(eligibility, SUBMITTED.model_copy(update={"redelivered": 3}), Delivery(count=1, failed=1)) is None


@pytest.mark.parametrize(
    "kind",
    [JobSubmitted, JobScheduled, JobRetrying, JobInterrupted, JobPostponed, JobQuarantined],
    ids=lambda k: k.fact,
)
@pytest.mark.parametrize("replace", ["put off", "given back"])
def test_a_put_off_job_keeps_its_facts_and_its_counts(eligibility, kind, replace):
    """No attempt, no retry and no counted delivery is added or lost, and its deadline for the start stays."""
    assert kind in COMMANDS
    quarantined = 100 if kind is JobQuarantined else 0
    facts = {"attempt": 2, "retried": 1, "redelivered": 1, "quarantined": quarantined, "saved_state": {"page": 3}}
    job = SUBMITTED.model_copy(update=facts | {"run_at": AT + timedelta(hours=1), "delivery": 7})
    delivery = Delivery(count=2, failed=1)
    if replace == "put off":
        after = put_off(eligibility, job, delivery, kind).job
    else:
        after = given_back(kind(job=job), delivery).job
    expected = facts | {"redelivered": 2, "run_at": job.run_at, "delivery": 10, "attempts": job.attempts}
    assert expected == {name: getattr(after, name) for name in expected}
    assert start_by(job) == start_by(after)


def test_a_job_that_is_given_back_is_delivered_again_at_once():
    """It was not started because no thread was free: no clock starts."""
    event = given_back(JobSubmitted(job=SUBMITTED), FIRST)
    assert event.delay <= timedelta(0)
    assert event.job.put_off.since is None
    assert {"0"} == set(event.routing_key.split(".")[4:])


def test_a_put_off_job_can_be_read_by_an_older_release(eligibility):
    """It requires a time for a job that waits, and ignores the rest."""
    assert SUBMITTED.run_at is None
    assert SUBMITTED.created_at == put_off(eligibility, SUBMITTED).job.run_at


@pytest.mark.parametrize("ahead", [{"created_at": LATER}, {"run_at": LATER}], ids=["created", "scheduled"])
def test_the_clock_of_a_gateway_does_not_delay_a_job_that_is_put_off(eligibility, ahead):
    """A processor whose clock was ten minutes behind made each such job wait for ten minutes."""
    job = SUBMITTED.model_copy(update=ahead)
    assert given_back(JobSubmitted(job=job), FIRST).delay <= timedelta(0)
    assert put_off(eligibility, job).delay <= timedelta(seconds=1)


def test_a_job_that_waits_in_quarantine_is_put_off_into_quarantine(eligibility):
    """Otherwise it would run beside others."""
    job = SUBMITTED.model_copy(update={"quarantined": 100})
    assert put_off(eligibility, job, kind=JobQuarantined).routing_key.startswith("job.postponed-in-quarantine.")


def test_a_message_with_the_highest_delivery_number_can_be_put_off(eligibility):
    """The number stays: one above it would be refused."""
    highest = SUBMITTED.model_copy(update={"delivery": MAX_STATED_DELIVERY})
    postponed = put_off(eligibility, highest, Delivery(count=2))
    assert MAX_STATED_DELIVERY == decode_event(encode_event(postponed)).job.delivery
