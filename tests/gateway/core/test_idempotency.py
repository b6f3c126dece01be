"""Idempotency keys, and retries of ended jobs."""

import asyncio
from datetime import timedelta

import pytest
from problem_answers import problem
from samples import ENDED, RUNNING

from milepost_contracts.ids import Keyring, SigningKey
from milepost_contracts.messages.job_events import JobStarted, JobSucceeded
from milepost_gateway.core.idempotency import Idempotency
from milepost_gateway.errors import NotAccepted, OutcomeUnknown

JOB = {"type": "count", "params": {"steps": 1}}


@pytest.fixture
def submit(http):
    """Return a coroutine function that submits a job with an Idempotency-Key."""

    async def post(key, job=JOB, **more):
        return await http.post("/v1/jobs", json=job, headers={"Idempotency-Key": key}, **more)

    return post


async def test_a_repeated_key_returns_the_first_job(submit, broker):
    """In the same response; nothing is submitted again."""
    first, repeat = await submit('"8e03978e-40d5"'), await submit('"8e03978e-40d5"')
    assert (202, 202) == (first.status_code, repeat.status_code)
    assert first.headers["location"] == repeat.headers["location"]
    assert first.json()["id"] == repeat.json()["id"]
    assert 1 == len(broker.submitted)


@pytest.fixture
def gateway_with(idempotency_store):
    """Return a function that claims a key at a gateway with these id keys, and returns the job's id."""

    async def claim(*keys):
        signing = Keyring([SigningKey(number=number, secret=bytes([number]) * 32) for number in keys])
        idempotency = Idempotency(keyring=signing, store=idempotency_store, retention=timedelta(days=7))
        async with idempotency.claim("default", "a key", "the same request") as claimed:
            return claimed.job_id

    return claim


@pytest.mark.parametrize("first, second", [([1], [1, 2]), ([1, 2], [2, 1]), ([2, 1], [1, 2])])
async def test_a_key_has_one_job_at_gateways_before_and_after_a_step_of_a_rotation(gateway_with, first, second):
    """Whichever of them handles the first request."""
    assert await gateway_with(*first) == await gateway_with(*second)


async def test_a_key_whose_job_id_has_an_unknown_signature_is_not_accepted(gateway_with):
    """A gateway that lacks another gateway's id key can't answer; a repeat may reach one that can."""
    await gateway_with(2, 1)
    with pytest.raises(NotAccepted, match="does not have"):
        await gateway_with(1)


@pytest.mark.parametrize("other", ["8e03978e-40d5", '"8e03978e-40d5"'])
async def test_quotes_around_a_key_do_not_matter(submit, broker, other):
    """The IETF draft requires them; few clients send them."""
    await submit("8e03978e-40d5")
    await submit(other)
    assert 1 == len(broker.submitted)


async def test_different_keys_make_different_jobs(submit, broker):
    """Twenty keys make twenty jobs."""
    ids = {(await submit(f"key-{n}")).json()["id"] for n in range(20)}
    assert (20, 20) == (len(ids), len(broker.submitted))


async def test_a_key_with_another_body_is_refused(submit, broker):
    """422: otherwise the client would believe that its second job runs."""
    await submit("k")
    problem(await submit("k", JOB | {"params": {"steps": 2}}), 422, "key-reused")
    assert 1 == len(broker.submitted)


async def test_a_repeat_while_the_first_request_is_in_flight_gets_409(submit, broker):
    """With Retry-After: the outcome of the first request is not known yet."""
    may_submit, submitting = asyncio.Event(), asyncio.Event()
    submit_to_broker = broker.submit

    async def submit_slowly(command):
        submitting.set()
        await may_submit.wait()
        await submit_to_broker(command)

    broker.submit = submit_slowly
    first = asyncio.create_task(submit("k"))
    await submitting.wait()
    answer = await submit("k")
    problem(answer, 409, "key-in-flight")
    assert "retry-after" in answer.headers
    may_submit.set()
    assert 202 == (await first).status_code


async def test_a_submission_that_was_not_accepted_releases_its_key(submit, broker):
    """The key may then be used with another body."""
    broker.error = lambda _: NotAccepted("away")
    problem(await submit("k"), 503, "not-accepted")
    broker.error = None
    assert 202 == (await submit("k", JOB | {"params": {"steps": 2}})).status_code


async def test_a_repeat_after_an_unknown_outcome_submits_the_same_id(submit, broker):
    """A repeated command is one job, and the key is not in flight any more."""
    broker.error = lambda command: OutcomeUnknown(command.job.id, "no confirm")
    unknown = problem(await submit("k"), 503, "outcome-unknown")
    broker.error = None
    again = await submit("k")
    assert (202, unknown["job_id"]) == (again.status_code, again.json()["id"])


async def test_a_failed_repeat_keeps_key_and_files_of_an_unknown_outcome(http, broker, blob_store, idempotency_store):
    """The job may be running."""

    async def send():
        form = {"files": {"file": ("a.txt", b"one")}, "data": {"job": '{"type":"count"}'}}
        return await http.post("/v1/jobs", headers={"Idempotency-Key": "k"}, **form)

    broker.error = lambda command: OutcomeUnknown(command.job.id, "no confirm")
    problem(await send(), 503, "outcome-unknown")
    broker.error = lambda _: NotAccepted("away")
    problem(await send(), 503, "not-accepted")
    assert (1, 1) == (len(blob_store.stored), len(idempotency_store.records))


async def test_a_repeat_can_ask_for_a_stream_or_a_wait(http, view, broker):
    """A client whose event stream broke repeats its submission."""
    headers = {"Idempotency-Key": "k", "Accept": "text/event-stream"}
    job_id = (await http.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "k"})).json()["id"]
    view.project(JobSucceeded(job=ENDED.model_copy(update={"id": job_id})), 6)
    stream = await http.post("/v1/jobs", json=JOB, headers=headers)
    assert "event: snapshot" in stream.text
    waited = await http.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "k", "Prefer": "wait=5"})
    assert (200, "succeeded") == (waited.status_code, waited.json()["status"])
    view.away = True
    assert 202 == (await http.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "k"})).status_code
    assert 1 == len(broker.submitted)


async def test_a_lost_or_unavailable_record_makes_no_second_job(submit, broker, idempotency_store):
    """The job id derives from the key, so a processor runs the job once."""
    first = (await submit("k")).json()["id"]
    idempotency_store.records.clear()
    lost = (await submit("k")).json()["id"]
    idempotency_store.away = True
    away = (await submit("k")).json()["id"]
    assert first == lost == away
    assert {first} == {command.job.id for command in broker.submitted}


async def test_a_job_with_a_key_has_a_creation_time(submit, broker):
    """Although the time in its id is only the day."""
    submitted = broker.submitted
    document = (await submit("k")).json()
    assert submitted[0].job.created_at.date().isoformat() == document["created_at"][:10]
    assert submitted[0].time >= submitted[0].job.created_at


async def test_files_are_part_of_the_repeated_request(http, broker):
    """The same file name with other content gets 422."""

    async def send(content):
        form = {"files": {"file": ("a.txt", content)}, "data": {"job": '{"type":"count"}'}}
        return await http.post("/v1/jobs", headers={"Idempotency-Key": "k"}, **form)

    assert 202 == (await send(b"one")).status_code
    assert 202 == (await send(b"one")).status_code
    problem(await send(b"two"), 422, "key-reused")
    assert 1 == len(broker.submitted)
    assert [3] == [file.size for file in broker.submitted[0].job.files]


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a b", "\x7f", '"', '"a', 'a"b', '"a"b"', "é".encode()])
async def test_an_invalid_key_is_malformed(submit, broker, key):
    """400, and nothing is submitted."""
    problem(await submit(key), 400, "malformed-request")
    assert [] == broker.submitted


async def test_two_keys_are_malformed(http, broker):
    """400: it is not clear which one applies."""
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    problem(await http.post("/v1/jobs", json=JOB, headers=headers), 400, "malformed-request")
    assert [] == broker.submitted


async def test_a_retry_is_a_new_run_of_the_same_job(http, view, broker, keyring):
    """It starts from the beginning, without the result of the last run."""
    job = ENDED.model_copy(update={"id": keyring.issue("default")})
    view.project(JobSucceeded(job=job), 6)
    answer = await http.post(f"/v1/jobs/{job.id}/retry")
    assert (202, job.id, 2) == (answer.status_code, answer.json()["id"], answer.json()["run"])
    (again,) = broker.submitted
    assert (2, 0, None, job.params) == (again.job.run, again.job.delivery, again.job.result, again.job.params)


async def test_a_retry_shows_the_new_run(http, view, broker, keyring):
    """Never the end of the last run as that of the new one, and never a lower version."""
    job = ENDED.model_copy(update={"id": keyring.issue("default")})
    view.project(JobSucceeded(job=job), 6)
    unseen = await http.post(f"/v1/jobs/{job.id}/retry")
    assert (2, 6, 'W/"0"') == (unseen.json()["run"], unseen.json()["version"], unseen.headers["etag"])
    submit = broker.submit

    async def submit_and_project(command):
        await submit(command)
        view.project(command, 9)

    broker.submit = submit_and_project
    seen = await http.post(f"/v1/jobs/{job.id}/retry")
    assert (2, 9, '"9"') == (seen.json()["run"], seen.json()["version"], seen.headers["etag"])


async def test_the_number_of_runs_is_limited(http, view, keyring):
    """A run number has at most four digits."""
    job = ENDED.model_copy(update={"id": keyring.issue("default"), "run": 9_999})
    view.project(JobSucceeded(job=job), 6)
    problem(await http.post(f"/v1/jobs/{job.id}/retry"), 409, "runs-exhausted")


async def test_a_live_job_can_not_be_retried(http, view, broker, keyring):
    """409: it would run twice."""
    job = RUNNING.model_copy(update={"id": keyring.issue("default")})
    view.project(JobStarted(job=job), 6)
    problem(await http.post(f"/v1/jobs/{job.id}/retry"), 409, "job-not-finished")
    assert [] == broker.submitted


async def test_an_unknown_job_can_not_be_retried(http, view, keyring):
    """404; 503 for a job that no tracker has seen, and while Redis is away."""
    problem(await http.post("/v1/jobs/unknown/retry"), 404, "unknown-job")
    problem(await http.post(f"/v1/jobs/{keyring.issue('default')}/retry"), 503, "status-unavailable")
    view.away = True
    problem(await http.post(f"/v1/jobs/{keyring.issue('default')}/retry"), 503, "status-unavailable")
