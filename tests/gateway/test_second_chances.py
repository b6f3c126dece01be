"""Later, never, and again: schedules, cancel and dead letters over HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from problem_answers import problem
from samples import ENDED, SUBMITTED

from milepost_contracts.events import CancelRequest, JobFailed, JobStarted, JobSubmitted, JobSucceeded
from milepost_contracts.values import JobError
from milepost_gateway.errors import NotAccepted, OutcomeUnknown

PATIENT = pytest.mark.parametrize("seen_within", [timedelta(seconds=5)])
"""A tracker is waited for."""

GIVEN_UP = JobError(kind="dead_lettered", message="the broker gave the job up")


def job_of(keyring, base=SUBMITTED, **changes):
    return base.model_copy(update={"id": keyring.issue("default"), **changes})


@pytest.fixture
def given_up(store, keyring):
    """Put a job into the view that was given up."""

    def make(**changes):
        job = job_of(keyring, ENDED, error=GIVEN_UP, **changes)
        store.project(JobFailed(job=job))
        return job

    return make


# Schedules.


@pytest.mark.parametrize(
    "asked, least, most",
    [
        ({"delay": 30}, 30, 30),
        ({"delay": 0.5}, 0.5, 0.5),
        ({"run_at": "LATER"}, 3540, 3600),
        ({"run_at": "LATER+02"}, 3540, 3600),
    ],
)
async def test_a_job_for_later_is_accepted_as_scheduled(http, broker, asked, least, most):
    """By a delay or a time, in any time zone."""
    later = datetime.now(UTC) + timedelta(hours=1)
    texts = {"LATER": later.isoformat(), "LATER+02": later.astimezone().isoformat()}
    asked = {name: texts.get(value, value) for name, value in asked.items()}
    response = await http.post("/v1/jobs", json={"type": "count", "params": {}, **asked})
    assert (202, "scheduled") == (response.status_code, response.json()["status"])
    (command,) = broker.submitted
    assert "job.scheduled" == command.fact
    assert least <= command.delay.total_seconds() <= most
    assert response.json()["run_at"]


@pytest.mark.parametrize("asked", [{"delay": 0}, {"run_at": "2020-01-01T00:00:00Z"}, {"delay": None}])
async def test_a_time_that_has_come_is_now(http, broker, asked):
    """Nothing to wait for."""
    assert "queued" == (await http.post("/v1/jobs", json={"type": "count", **asked})).json()["status"]
    assert "job.submitted" == broker.submitted[0].fact


@pytest.mark.parametrize(
    "asked, pointer",
    [
        ({"delay": -1}, "/delay"),
        ({"delay": 91 * 86_400}, "/delay"),
        ({"delay": "5"}, "/delay"),
        ({"delay": True}, "/delay"),
        ({"run_at": "2999-01-01T00:00:00Z"}, "/run_at"),
        ({"run_at": "2026-01-01T00:00:00"}, "/run_at"),
        ({"run_at": "tomorrow"}, "/run_at"),
        ({"run_at": 1_800_000_000}, "/run_at"),
        ({"run_at": "1800000000"}, "/run_at"),
        ({"expires_in": 0}, "/expires_in"),
        ({"expires_in": 1e12}, "/expires_in"),
        ({"delay": 5, "run_at": "2026-12-31T00:00:00Z"}, ""),
        ({"options": {}}, "/options"),
        ({"max_retries": 5}, "/max_retries"),
    ],
)
async def test_a_time_that_can_not_be_is_refused(http, broker, asked, pointer):
    """Negative, too far, without a zone, of another type, or two at once."""
    body = problem(await http.post("/v1/jobs", json={"type": "count", **asked}), 422, "invalid-request")
    assert pointer in [error["pointer"] for error in body["errors"]]
    assert [] == broker.submitted


async def test_a_job_says_until_when_somebody_must_have_started_it(http, broker):
    """From the time it is for."""
    body = (await http.post("/v1/jobs", json={"type": "count", "delay": 60, "expires_in": 30})).json()
    run_at, start_by = (datetime.fromisoformat(body[name]) for name in ("run_at", "start_by"))
    assert timedelta(seconds=30) == start_by - run_at


# Cancel.


async def test_a_request_to_cancel_is_stored_and_shown(http, broker, store, keyring):
    """202 with the document, which no tracker has seen yet; the same request again is no second message."""
    job = job_of(keyring)
    store.project(JobSubmitted(job=job), version=7)
    response = await http.post(f"/v1/jobs/{job.id}/cancel")
    asked = response.json()["cancel_requested"]
    assert (202, 'W/"0"', None) == (response.status_code, response.headers["etag"], asked["how"])
    (message,) = broker.requests
    assert (job.id, 1, "job.cancel-requested") == (message.request.job_id, message.request.run, message.fact)

    seen = CancelRequest(job_id=job.id, type=job.type, queue=job.queue, requested_at=message.request.requested_at)
    store.project(JobStarted(job=job.model_copy(update={"turn": 1})), version=8, cancel=seen)
    again = await http.post(f"/v1/jobs/{job.id}/cancel")
    assert (202, asked) == (again.status_code, again.json()["cancel_requested"])
    assert 1 == len(broker.requests)


@PATIENT
async def test_a_request_to_cancel_that_is_seen_at_once_is_told_as_it_is_seen(http, broker, store, keyring):
    """With its version: what a look tells next is the same."""
    job = job_of(keyring)
    store.project(JobSubmitted(job=job), version=7)
    asking = asyncio.create_task(http.post(f"/v1/jobs/{job.id}/cancel"))
    await asyncio.wait_for(store.listened.wait(), 5)
    store.project(JobSubmitted(job=job), version=8, cancel=broker.requests[0].request)
    response = await asking
    look = await http.get(f"/v1/jobs/{job.id}")
    assert (202, '"8"', look.content) == (response.status_code, response.headers["etag"], response.content)


@PATIENT
async def test_a_job_can_be_canceled_as_soon_as_it_has_an_id(http, broker, store, keyring):
    """Whether or not a tracker has seen it: that is waited for."""
    job = job_of(keyring)
    asking = asyncio.create_task(http.post(f"/v1/jobs/{job.id}/cancel"))
    await asyncio.wait_for(store.listened.wait(), 5)
    assert [] == broker.requests
    store.listened.clear()
    store.project(JobSubmitted(job=job), version=7)
    await asyncio.wait_for(store.listened.wait(), 5)
    (message,) = broker.requests
    store.project(JobSubmitted(job=job), version=8, cancel=message.request)
    assert 202 == (await asking).status_code


async def test_what_has_ended_can_not_be_canceled(http, store, keyring):
    """409, whatever the end was."""
    job = job_of(keyring, ENDED)
    store.project(JobSucceeded(job=job))
    body = problem(await http.post(f"/v1/jobs/{job.id}/cancel"), 409, "job-already-finished")
    assert "succeeded" in body["detail"]


async def test_what_can_not_be_canceled_now_is_told(http, broker, store, keyring):
    """Unknown is 404; not seen for two seconds, or no broker, is a matter of time."""
    problem(await http.post("/v1/jobs/unknown/cancel"), 404, "unknown-job")
    job = job_of(keyring)
    problem(await http.post(f"/v1/jobs/{job.id}/cancel"), 503, "status-unavailable")
    store.project(JobSubmitted(job=job))
    broker.error = lambda message: NotAccepted("away")
    assert "retry-after" in (await http.post(f"/v1/jobs/{job.id}/cancel")).headers
    broker.error = lambda message: OutcomeUnknown(message.subject, "slow")
    problem(await http.post(f"/v1/jobs/{job.id}/cancel"), 503, "outcome-unknown")


# Dead letters.


async def test_what_was_given_up_is_listed(http, store, given_up, keyring):
    """Jobs that ended so, by type and queue, and messages that nobody could read."""
    job = given_up()
    store.project(JobFailed(job=job_of(keyring, ENDED, error=JobError(kind="exception", message="no"))))
    store.poisons.append(
        b'{"id":"a","reason":"not JSON","queue":"work.cpu","at":"2026-01-01T00:00:00Z","size":3,"excerpt":"abc"}'
    )
    body = (await http.get("/v1/dead-letters")).json()
    assert [(job.id, "dead_lettered")] == [(one["job_id"], one["error"]["kind"]) for one in body["items"]]
    assert ["not JSON"] == [one["reason"] for one in body["unreadable"]]
    assert [] == (await http.get("/v1/dead-letters?type=other")).json()["items"]
    assert 400 == (await http.get("/v1/dead-letters?type=NO!")).status_code


async def test_a_redrive_is_the_next_run_of_the_same_job(http, broker, given_up):
    """With the same params and files, and nothing of the attempts before."""
    job = given_up()
    response = await http.post(f"/v1/dead-letters/{job.id}/redrive")
    assert (202, "queued", 2) == (response.status_code, response.json()["status"], response.json()["run"])
    (command,) = broker.submitted
    again = command.job
    assert (job.id, job.params, job.files, job.tenant) == (again.id, again.params, again.files, again.tenant)
    assert (2, 0, 0, None, ()) == (again.run, again.turn, again.attempt, again.error, again.attempts)
    assert command.sequence > JobFailed(job=job).sequence


async def test_only_what_was_given_up_can_be_redriven(http, store, keyring):
    """409 for other jobs, 404 for none."""
    job = job_of(keyring)
    store.project(JobSubmitted(job=job))
    problem(await http.post(f"/v1/dead-letters/{job.id}/redrive"), 409, "not-a-dead-letter")
    problem(await http.post("/v1/dead-letters/unknown/redrive"), 404, "unknown-job")


async def test_many_are_redriven_at_a_rate(http, broker, given_up):
    """Oldest first; the broker holds back the later ones, so the answer comes at once."""
    jobs = [given_up() for _ in range(4)]
    response = await http.post("/v1/dead-letters:redrive", json={"rate": 2, "limit": 3})
    assert (202, 3) == (response.status_code, response.json()["count"])
    delays = [(command.job.run_at or command.time) - command.time for command in broker.submitted]
    assert [0.0, 0.5, 1.0] == [delay.total_seconds() for delay in delays]
    assert sorted(response.json()["job_ids"]) == response.json()["job_ids"]
    assert {job.id for job in jobs} > set(response.json()["job_ids"])


@PATIENT
async def test_many_are_redriven_once_that_can_be_seen(http, broker, store, given_up):
    """Who looks then is not told how the last run ended."""
    jobs = [given_up() for _ in range(2)]
    asking = asyncio.create_task(http.post("/v1/dead-letters:redrive", json={}))
    await asyncio.wait_for(store.listened.wait(), 5)
    for number, command in enumerate(broker.submitted):
        assert not asking.done()
        store.project(command, 20 + number)
    assert 2 == (await asking).json()["count"]
    looks = [(await http.get(f"/v1/jobs/{job.id}")).json() for job in jobs]
    assert [(2, "queued")] * 2 == [(look["run"], look["status"]) for look in looks]


async def test_a_dry_run_says_which_and_does_nothing(http, broker, given_up):
    """200, not 202: nothing was accepted."""
    job = given_up()
    response = await http.post("/v1/dead-letters:redrive", json={"dry_run": True, "type": job.type})
    assert (200, [job.id]) == (response.status_code, response.json()["job_ids"])
    assert [] == broker.submitted


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 0},
        {"limit": "5"},
        {"rate": -1},
        {"rate": 1e-300},
        {"type": "NO!"},
        {"before": 5},
        {"everything": True},
    ],
)
async def test_a_redrive_that_makes_no_sense_is_refused(http, broker, given_up, body):
    """With the place that is wrong."""
    given_up()
    answer = problem(await http.post("/v1/dead-letters:redrive", json=body), 422, "invalid-request")
    assert f"/{next(iter(body))}" == answer["errors"][0]["pointer"]
    assert [] == broker.submitted


async def test_a_broker_that_stops_taking_them_is_told_of_with_what_it_took(http, broker, given_up):
    """The rest is still there, to be handed over again."""
    for _ in range(3):
        given_up()
    broker.error = lambda command: NotAccepted("away")
    problem(await http.post("/v1/dead-letters:redrive", json={}), 503, "not-accepted")
    takes = [None, NotAccepted("away")]

    async def submit(command):
        if (error := takes.pop(0)) is not None:
            raise error
        broker.submitted.append(command)

    broker.submit = submit
    response = await http.post("/v1/dead-letters:redrive", json={})
    body = response.json()
    assert (202, 1, 2) == (response.status_code, body["count"], body["left"])
    assert [command.job.id for command in broker.submitted] == body["job_ids"]


async def test_a_parameter_that_the_listing_of_dead_letters_does_not_know_is_malformed(http):
    """A filter that is silently ignored would list what was not asked for."""
    problem(await http.get("/v1/dead-letters?before=2026-01-01"), 400, "malformed-request")
