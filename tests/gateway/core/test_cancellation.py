"""Schedules, cancellation and dead letters over HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from problem_answers import problem
from samples import ENDED, SUBMITTED

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import CancelRequest, JobFailed, JobStarted, JobSubmitted, JobSucceeded
from milepost_contracts.values import JobError
from milepost_gateway.errors import NotAccepted, OutcomeUnknown

WAITS_FOR_TRACKER = pytest.mark.parametrize("projection_timeout", [timedelta(seconds=5)])
"""The gateway waits until a tracker has seen the job."""

DEAD_LETTERED = JobError(kind="dead_lettered", message="the broker gave the job up")


def job_of(keyring, base=SUBMITTED, **changes):
    return base.model_copy(update={"id": keyring.issue("default"), **changes})


@pytest.fixture
def create_dead_letter(view, keyring):
    """Return a function that projects a dead-lettered job."""

    def create(**changes):
        job = job_of(keyring, ENDED, error=DEAD_LETTERED, **changes)
        view.project(JobFailed(job=job))
        return job

    return create


# Schedules.


@pytest.mark.parametrize("delay", [30, 0.5])
async def test_a_job_with_a_delay_is_scheduled(http, broker, delay):
    """Its delay counts from its acceptance."""
    earliest = now() + timedelta(seconds=delay)
    command = await scheduled(http, broker, delay=delay)
    assert earliest <= command.job.run_at <= now() + timedelta(seconds=delay)


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=2))])
async def test_a_job_with_run_at_is_scheduled(http, broker, zone):
    """`run_at` may be in any time zone."""
    later = now().astimezone(zone) + timedelta(hours=1)
    assert later == (await scheduled(http, broker, run_at=later.isoformat())).job.run_at


async def scheduled(http, broker, **schedule):
    """Submit a job with this schedule; return its command."""
    response = await http.post("/v1/jobs", json={"type": "count", "params": {}, **schedule})
    assert (202, "scheduled") == (response.status_code, response.json()["status"])
    assert response.json()["run_at"]
    (command,) = broker.submitted
    assert "job.scheduled" == command.fact
    return command


@pytest.mark.parametrize("schedule", [{"delay": 0}, {"run_at": "2020-01-01T00:00:00Z"}, {"delay": None}])
async def test_a_time_that_has_passed_means_now(http, broker, schedule):
    """The job is queued at once."""
    assert "queued" == (await http.post("/v1/jobs", json={"type": "count", **schedule})).json()["status"]
    assert "job.submitted" == broker.submitted[0].fact


@pytest.mark.parametrize(
    "fields, pointer",
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
async def test_an_invalid_schedule_is_refused(http, broker, fields, pointer):
    """Negative, too far ahead, without a time zone, of another type, delay and run_at together, or an unknown field."""
    body = problem(await http.post("/v1/jobs", json={"type": "count", **fields}), 422, "invalid-request")
    assert pointer in [error["pointer"] for error in body["errors"]]
    assert [] == broker.submitted


async def test_start_by_is_run_at_plus_expires_in(http, broker):
    """`expires_in` counts from the scheduled time."""
    body = (await http.post("/v1/jobs", json={"type": "count", "delay": 60, "expires_in": 30})).json()
    run_at, start_by = (datetime.fromisoformat(body[name]) for name in ("run_at", "start_by"))
    assert timedelta(seconds=30) == start_by - run_at


# Cancel.


async def test_a_cancel_request_is_published_and_shown(http, broker, view, keyring):
    """202 with the document, before a tracker has seen the request; a repeat publishes no second message."""
    job = job_of(keyring)
    view.project(JobSubmitted(job=job), version=7)
    response = await http.post(f"/v1/jobs/{job.id}/cancel")
    cancel_request = response.json()["cancel_requested"]
    assert (202, 'W/"0"', None) == (response.status_code, response.headers["etag"], cancel_request["how"])
    (message,) = broker.requests
    assert (job.id, 1, "job.cancel-requested") == (message.request.job_id, message.request.run, message.fact)

    seen = CancelRequest(job_id=job.id, type=job.type, queue=job.queue, requested_at=message.request.requested_at)
    view.project(JobStarted(job=job.model_copy(update={"delivery": 1})), version=8, cancel=seen)
    again = await http.post(f"/v1/jobs/{job.id}/cancel")
    assert (202, cancel_request) == (again.status_code, again.json()["cancel_requested"])
    assert 1 == len(broker.requests)


@WAITS_FOR_TRACKER
async def test_a_cancel_seen_in_time_returns_the_trackers_version(http, broker, view, keyring):
    """The response is the same as that of the next GET."""
    job = job_of(keyring)
    view.project(JobSubmitted(job=job), version=7)
    canceling = asyncio.create_task(http.post(f"/v1/jobs/{job.id}/cancel"))
    await asyncio.wait_for(view.listened.wait(), 5)
    view.project(JobSubmitted(job=job), version=8, cancel=broker.requests[0].request)
    response = await canceling
    status = await http.get(f"/v1/jobs/{job.id}")
    assert (202, '"8"', status.content) == (response.status_code, response.headers["etag"], response.content)


@WAITS_FOR_TRACKER
async def test_a_job_can_be_canceled_as_soon_as_it_has_an_id(http, broker, view, keyring):
    """The request waits until a tracker has seen the job."""
    job = job_of(keyring)
    canceling = asyncio.create_task(http.post(f"/v1/jobs/{job.id}/cancel"))
    await asyncio.wait_for(view.listened.wait(), 5)
    assert [] == broker.requests
    view.listened.clear()
    view.project(JobSubmitted(job=job), version=7)
    await asyncio.wait_for(view.listened.wait(), 5)
    (message,) = broker.requests
    view.project(JobSubmitted(job=job), version=8, cancel=message.request)
    assert 202 == (await canceling).status_code


async def test_an_ended_job_can_not_be_canceled(http, view, keyring):
    """409 that names the status."""
    job = job_of(keyring, ENDED)
    view.project(JobSucceeded(job=job))
    body = problem(await http.post(f"/v1/jobs/{job.id}/cancel"), 409, "job-already-finished")
    assert "succeeded" in body["detail"]


async def test_a_cancel_that_is_not_possible_now_is_a_problem(http, broker, view, keyring):
    """404 for an unknown job; 503 while no tracker has seen the job or the broker does not confirm."""
    problem(await http.post("/v1/jobs/unknown/cancel"), 404, "unknown-job")
    job = job_of(keyring)
    problem(await http.post(f"/v1/jobs/{job.id}/cancel"), 503, "status-unavailable")
    view.project(JobSubmitted(job=job))
    broker.error = lambda message: NotAccepted("away")
    assert "retry-after" in (await http.post(f"/v1/jobs/{job.id}/cancel")).headers
    broker.error = lambda message: OutcomeUnknown(message.subject, "slow")
    problem(await http.post(f"/v1/jobs/{job.id}/cancel"), 503, "outcome-unknown")


# Dead letters.


async def test_dead_letters_are_listed(http, view, create_dead_letter, keyring, poison_store):
    """Dead-lettered jobs, filtered by type, and unreadable messages."""
    job = create_dead_letter()
    view.project(JobFailed(job=job_of(keyring, ENDED, error=JobError(kind="exception", message="no"))))
    poison_store.records.append(
        b'{"id":"a","reason":"not JSON","queue":"work.cpu","at":"2026-01-01T00:00:00Z","size":3,"excerpt":"abc"}'
    )
    body = (await http.get("/v1/dead-letters")).json()
    assert [(job.id, "dead_lettered")] == [(item["job_id"], item["error"]["kind"]) for item in body["items"]]
    assert ["not JSON"] == [item["reason"] for item in body["unreadable"]]
    assert [] == (await http.get("/v1/dead-letters?type=other")).json()["items"]
    assert 400 == (await http.get("/v1/dead-letters?type=NO!")).status_code


async def test_a_redrive_is_the_next_run_of_the_same_job(http, broker, create_dead_letter):
    """With the same params and files, without the earlier attempts."""
    job = create_dead_letter()
    response = await http.post(f"/v1/dead-letters/{job.id}/redrive")
    assert (202, "queued", 2) == (response.status_code, response.json()["status"], response.json()["run"])
    (command,) = broker.submitted
    again = command.job
    assert (job.id, job.params, job.files, job.tenant) == (again.id, again.params, again.files, again.tenant)
    assert (2, 0, 0, None, ()) == (again.run, again.delivery, again.attempt, again.error, again.attempts)
    assert command.sequence > JobFailed(job=job).sequence


async def test_only_a_dead_lettered_job_can_be_redriven(http, view, keyring):
    """409 for other jobs, 404 for unknown ids."""
    job = job_of(keyring)
    view.project(JobSubmitted(job=job))
    problem(await http.post(f"/v1/dead-letters/{job.id}/redrive"), 409, "not-a-dead-letter")
    problem(await http.post("/v1/dead-letters/unknown/redrive"), 404, "unknown-job")


async def test_a_bulk_redrive_follows_its_rate(http, broker, create_dead_letter):
    """The broker delays the later jobs, so the response comes at once."""
    jobs = [create_dead_letter() for _ in range(4)]
    response = await http.post("/v1/dead-letters:redrive", json={"rate": 2, "limit": 3})
    assert (202, 3) == (response.status_code, response.json()["count"])
    delays = [(command.job.run_at or command.time) - command.time for command in broker.submitted]
    assert [0.0, 0.5, 1.0] == [delay.total_seconds() for delay in delays]
    assert sorted(response.json()["job_ids"]) == response.json()["job_ids"]
    assert {job.id for job in jobs} > set(response.json()["job_ids"])


@WAITS_FOR_TRACKER
async def test_a_bulk_redrive_returns_once_the_new_runs_are_visible(http, broker, view, create_dead_letter):
    """A GET after the response does not show how the last run ended."""
    jobs = [create_dead_letter() for _ in range(2)]
    redriving = asyncio.create_task(http.post("/v1/dead-letters:redrive", json={}))
    await asyncio.wait_for(view.listened.wait(), 5)
    for number, command in enumerate(broker.submitted):
        assert not redriving.done()
        view.project(command, 20 + number)
    assert 2 == (await redriving).json()["count"]
    documents = [(await http.get(f"/v1/jobs/{job.id}")).json() for job in jobs]
    assert [(2, "queued")] * 2 == [(document["run"], document["status"]) for document in documents]


async def test_a_dry_run_lists_the_jobs_and_redrives_none(http, broker, create_dead_letter):
    """200 instead of 202, as nothing was accepted."""
    job = create_dead_letter()
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
async def test_an_invalid_redrive_is_refused(http, broker, create_dead_letter, body):
    """With a pointer to the invalid field."""
    create_dead_letter()
    answer = problem(await http.post("/v1/dead-letters:redrive", json=body), 422, "invalid-request")
    assert f"/{next(iter(body))}" == answer["errors"][0]["pointer"]
    assert [] == broker.submitted


async def test_a_redrive_that_the_broker_interrupts_says_how_many_are_left(http, broker, create_dead_letter):
    """The other jobs can be redriven again; 503 if the broker accepted none."""
    for _ in range(3):
        create_dead_letter()
    broker.error = lambda command: NotAccepted("away")
    problem(await http.post("/v1/dead-letters:redrive", json={}), 503, "not-accepted")
    outcomes = [None, NotAccepted("away")]

    async def submit(command):
        if (error := outcomes.pop(0)) is not None:
            raise error
        broker.submitted.append(command)

    broker.submit = submit
    response = await http.post("/v1/dead-letters:redrive", json={})
    body = response.json()
    assert (202, 1, 2) == (response.status_code, body["count"], body["left"])
    assert [command.job.id for command in broker.submitted] == body["job_ids"]


async def test_a_full_queue_stops_no_redrive_of_another_queue(http, broker, create_dead_letter):
    """Its own jobs are left, after one try."""
    full = [create_dead_letter(queue="full") for _ in range(2)]
    other = [create_dead_letter() for _ in range(2)]
    tried = []

    async def submit(command):
        tried.append(command.job.id)
        if command.job.queue == "full":
            raise NotAccepted("full")

    broker.submit = submit
    body = (await http.post("/v1/dead-letters:redrive", json={})).json()
    assert (sorted(job.id for job in other), len(full)) == (body["job_ids"], body["left"])
    assert 1 == len({job.id for job in full} & set(tried))


async def test_an_unknown_parameter_of_the_dead_letter_listing_is_malformed(http):
    """If it were ignored, the listing would contain jobs that the client did not ask for."""
    problem(await http.get("/v1/dead-letters?before=2026-01-01"), 400, "malformed-request")
