"""Secret params: their handler gets them, and nothing else does."""

import logging
from datetime import timedelta

import pytest
import structlog
from odd_handlers import FIRST, facts
from pydantic import BaseModel, SecretStr
from samples import JUST_SUBMITTED

from milepost import Run, job
from milepost.job import definition_of
from milepost.testing import run_job
from milepost_contracts.clock import now
from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import JobSubmitted
from milepost_contracts.secret_params import MASK
from milepost_contracts.values import PutOff
from milepost_processor.core.handlers import Handlers
from milepost_processor.core.put_off import PUT_OFF_LIMIT, Eligibility
from milepost_processor.core.runner import Runner
from milepost_processor.core.secret_params import ParamsOpener
from milepost_service import logs
from milepost_service.sealing import Sealer

SEALER, OTHER = Sealer.parse("1:" + "ab" * 32), Sealer.parse("2:" + "cd" * 32)
CANARY = "hunter2-hunter2"


class Params(BaseModel):
    token: SecretStr
    raise_it: bool = False


got = []


def fetch(params: Params, run: Run) -> str:
    got.append(params.token.get_secret_value())
    run.progress(1, 2, f"with {got[-1]}")
    logging.getLogger("the.handler").warning("calling with %s", got[-1])
    if params.raise_it:
        raise ValueError(f"401 for {got[-1]}")
    return "done"


HANDLERS = Handlers({"fetch": definition_of(job("fetch", retries=1)(fetch))})


def sealed(sealer=SEALER, **params):
    submitted = JUST_SUBMITTED.model_copy(update={"type": "fetch", "params": {"token": MASK, **params}})
    return sealer.seal(submitted, {"/token": CANARY})


@pytest.fixture
def opener():
    return ParamsOpener(HANDLERS, SEALER)


@pytest.fixture
def runner(opener, claims, publisher, files, run_async, queue_wait):
    got.clear()
    return Runner(
        HANDLERS,
        opener=opener,
        claims=claims,
        publisher=publisher,
        files=files,
        run_async=run_async,
        instance="here",
        claim_patience=timedelta(seconds=5),
        delivery_limit=3,
        queue_wait=queue_wait,
    )


@pytest.mark.parametrize("raise_it, fact", [(False, "job.succeeded"), (True, "job.retrying")])
def test_the_handler_gets_the_secret_and_no_event_has_it(runner, publisher, raise_it, fact):
    """Every event carries the sealed form on: a retry opens it again."""
    command = JobSubmitted(job=sealed(raise_it=raise_it))
    runner.execute(command, FIRST)
    assert [CANARY] == got
    assert ["job.started", fact] == facts(publisher)
    for event in publisher.events:
        assert CANARY.encode() not in encode(event)
        assert (command.job.sealed, {"token": MASK, "raise_it": raise_it}) == (event.job.sealed, event.job.params)
    assert f"with {MASK}" == publisher.events[-1].job.progress.message
    assert not raise_it or f"401 for {MASK}" == publisher.events[-1].job.error.message


@pytest.mark.parametrize("token", [CANARY, SecretStr(CANARY)], ids=["text", "SecretStr"])
def test_the_test_kit_masks_what_a_processor_masks(runner, publisher, token):
    """A test sees the messages that clients will see: of progress, of the error and of each attempt."""
    command = JobSubmitted(job=sealed(raise_it=True))
    for _ in range(2):
        runner.execute(command, FIRST)
        command = publisher.events[-1]
    outcome, ended = run_job(fetch, {"token": token, "raise_it": True}), command.job
    assert ("failed", 2) == (outcome.status, len(outcome.attempts))
    assert (ended.error.message, ended.progress.message) == (outcome.error.message, outcome.progress[-1].message)
    assert [one.why for one in ended.attempts] == outcome.attempts
    assert f"401 for {MASK}" in outcome.error.traceback
    assert CANARY not in str(outcome)


def test_no_log_line_has_the_secret_while_it_is_open(runner, opener, capfd):
    """Whoever writes it: the handler, a library or the processor, which logs the traceback."""
    root, before = logging.getLogger(), logging.getLogger().handlers
    root.handlers = []
    try:
        logs.configure(service="processor", level="info", log_format="json", mask=opener.mask)
        runner.execute(JobSubmitted(job=sealed(raise_it=True)), FIRST)
    finally:
        root.handlers = before
        structlog.reset_defaults()
    written = capfd.readouterr().err
    assert f"calling with {MASK}" in written
    assert "handler_raised" in written
    assert CANARY not in written
    assert CANARY == opener.mask(CANARY), "it is masked no longer than it is open"


def test_secrets_that_do_not_open_fail_the_job_without_a_retry(runner, publisher):
    """Another attempt could not open them either."""
    moved = sealed().model_copy(update={"tenant": "other"})
    runner.execute(JobSubmitted(job=moved), FIRST)
    assert ([], ["job.failed"]) == (got, facts(publisher))
    error = publisher.events[-1].job.error
    assert ("secrets-unreadable", True) == (error.kind, "not sealed for this job" in error.message)


def test_a_job_whose_sealed_secrets_were_lost_is_not_run_with_the_masks(runner, publisher):
    """A tracker of an earlier release does not keep them for a retry."""
    runner.execute(JobSubmitted(job=sealed().model_copy(update={"sealed": None})), FIRST)
    assert ([], ["job.failed"]) == (got, facts(publisher))
    assert "secrets-unreadable" == publisher.events[-1].job.error.kind


def test_params_that_are_not_sealed_are_run_as_they_are(runner):
    """A gateway of an earlier release does not seal them."""
    runner.execute(JobSubmitted(job=sealed().model_copy(update={"sealed": None, "params": {"token": "t"}})), FIRST)
    assert ["t"] == got


def test_a_job_that_was_sealed_with_another_key_waits_for_a_processor_that_has_it(opener):
    """Keys rotate while processors of both configurations run. After a while, it fails where it is."""
    eligibility, at = Eligibility(HANDLERS, opener, delivery_limit=3), now()
    assert "key" in eligibility.obstacle(sealed(OTHER)).reason
    waited = PutOff(since=at - PUT_OFF_LIMIT - timedelta(seconds=1), until=at)
    assert eligibility.obstacle(sealed(OTHER).model_copy(update={"put_off": waited})) is None
    assert eligibility.obstacle(sealed()) is None


def test_the_refusal_of_another_version_has_no_secret(opener):
    """The params are opened to be checked; what is wrong is published."""
    eligibility = Eligibility(HANDLERS, opener, delivery_limit=3)
    other = SEALER.seal(sealed().model_copy(update={"sealed": None, "type_version": "new"}), {"/token": [CANARY]})
    obstacle = eligibility.obstacle(other)
    assert 'the value is not of type "string"' == obstacle.refusal
    assert CANARY not in str(obstacle)
    assert eligibility.obstacle(sealed().model_copy(update={"type_version": "new"})) is None


def test_a_processor_with_secret_params_needs_keys():
    """Without them it would fail every job."""
    assert "fetch" in ParamsOpener(HANDLERS, Sealer()).missing_keys
    assert ParamsOpener(HANDLERS, SEALER).missing_keys is None
    assert ParamsOpener(Handlers({}), Sealer()).missing_keys is None
