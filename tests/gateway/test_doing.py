"""Handing over exactly once by a key, and running again what has ended."""

import asyncio

import pytest
from problem_answers import problem
from samples import ENDED, RUNNING

from milepost_contracts.events import JobStarted, JobSucceeded
from milepost_gateway.errors import NotAccepted, OutcomeUnknown

JOB = {"type": "count", "params": {"steps": 1}}


@pytest.fixture
def submit(http):
    """Hand a job over with a key."""

    async def post(key, job=JOB, **more):
        return await http.post("/v1/jobs", json=job, headers={"Idempotency-Key": key}, **more)

    return post


async def test_the_same_key_twice_is_one_job(submit, broker):
    """The repeat gets the same answer."""
    first, repeat = await submit('"8e03978e-40d5"'), await submit('"8e03978e-40d5"')
    assert (202, 202) == (first.status_code, repeat.status_code)
    assert first.headers["location"] == repeat.headers["location"]
    assert first.json()["id"] == repeat.json()["id"]
    assert 1 == len(broker.submitted)


@pytest.mark.parametrize("other", ["8e03978e-40d5", '"8e03978e-40d5"'])
async def test_quotes_around_a_key_do_not_matter(submit, broker, other):
    """The draft asks for them; few clients send them."""
    await submit("8e03978e-40d5")
    await submit(other)
    assert 1 == len(broker.submitted)


async def test_different_keys_are_different_jobs(submit, broker):
    """And no key is always a new one."""
    ids = {(await submit(f"key-{n}")).json()["id"] for n in range(20)}
    assert (20, 20) == (len(ids), len(broker.submitted))


async def test_a_key_with_another_body_is_refused(submit, broker):
    """The client made a mistake, and would believe that the second job runs."""
    await submit("k")
    problem(await submit("k", JOB | {"params": {"steps": 2}}), 422, "key-reused")
    assert 1 == len(broker.submitted)


async def test_a_key_whose_first_request_is_not_done_is_asked_to_come_back(submit, broker):
    """Nobody knows yet what came of it."""
    let_go, begun = asyncio.Event(), asyncio.Event()
    submit_now = broker.submit

    async def slow(command):
        begun.set()
        await let_go.wait()
        await submit_now(command)

    broker.submit = slow
    first = asyncio.create_task(submit("k"))
    await begun.wait()
    answer = await submit("k")
    problem(answer, 409, "key-in-flight")
    assert "retry-after" in answer.headers
    let_go.set()
    assert 202 == (await first).status_code


async def test_what_was_certainly_not_accepted_leaves_its_key(submit, broker):
    """The next try is a first one."""
    broker.error = lambda _: NotAccepted("away")
    problem(await submit("k"), 503, "not-accepted")
    broker.error = None
    assert 202 == (await submit("k", JOB | {"params": {"steps": 2}})).status_code


async def test_what_may_have_been_accepted_is_handed_over_again_under_the_same_id(submit, broker):
    """The same command twice is one job; nobody is at it any more, so the repeat may come at once."""
    broker.error = lambda command: OutcomeUnknown(command.job.id, "nobody said")
    unknown = problem(await submit("k"), 503, "outcome-unknown")
    broker.error = None
    again = await submit("k")
    assert (202, unknown["job_id"]) == (again.status_code, again.json()["id"])


async def test_a_repeat_that_fails_takes_nothing_from_what_may_have_been_accepted(http, broker, blobs, key_store):
    """Its key and its files stay: the job may be running."""

    async def send():
        form = {"files": {"file": ("a.txt", b"one")}, "data": {"job": '{"type":"count"}'}}
        return await http.post("/v1/jobs", headers={"Idempotency-Key": "k"}, **form)

    broker.error = lambda command: OutcomeUnknown(command.job.id, "nobody said")
    problem(await send(), 503, "outcome-unknown")
    broker.error = lambda _: NotAccepted("away")
    problem(await send(), 503, "not-accepted")
    assert (1, 1) == (len(blobs.stored), len(key_store.uses))


async def test_a_repeat_is_answered_in_the_form_that_it_asks_for(http, store, broker):
    """Whoever lost the stream of its submission asks for it again."""
    headers = {"Idempotency-Key": "k", "Accept": "text/event-stream"}
    job_id = (await http.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "k"})).json()["id"]
    store.project(JobSucceeded(job=ENDED.model_copy(update={"id": job_id})), 6)
    stream = await http.post("/v1/jobs", json=JOB, headers=headers)
    assert "event: snapshot" in stream.text
    waited = await http.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "k", "Prefer": "wait=5"})
    assert (200, "succeeded") == (waited.status_code, waited.json()["status"])
    store.away = True
    assert 202 == (await http.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "k"})).status_code
    assert 1 == len(broker.submitted)


async def test_a_store_that_is_away_or_has_forgotten_makes_no_second_job(submit, broker, key_store):
    """The id follows from the key: a processor runs it once."""
    first = (await submit("k")).json()["id"]
    key_store.uses.clear()
    forgotten = (await submit("k")).json()["id"]
    key_store.away = True
    away = (await submit("k")).json()["id"]
    assert first == forgotten == away
    assert {first} == {command.job.id for command in broker.submitted}


async def test_a_job_that_is_handed_over_by_key_says_when(submit, broker):
    """Though its id only knows the day."""
    before = broker.submitted
    document = (await submit("k")).json()
    assert before[0].job.created_at.date().isoformat() == document["created_at"][:10]
    assert before[0].time >= before[0].job.created_at


async def test_files_belong_to_the_request(http, broker):
    """The same name with another content is another request."""

    async def send(content):
        form = {"files": {"file": ("a.txt", content)}, "data": {"job": '{"type":"count"}'}}
        return await http.post("/v1/jobs", headers={"Idempotency-Key": "k"}, **form)

    assert 202 == (await send(b"one")).status_code
    assert 202 == (await send(b"one")).status_code
    problem(await send(b"two"), 422, "key-reused")
    assert 1 == len(broker.submitted)
    assert [3] == [file.size for file in broker.submitted[0].job.files]


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a b", "\x7f", '"', '"a', 'a"b', '"a"b"', "é".encode()])
async def test_a_key_that_can_not_be_kept_is_malformed(submit, broker, key):
    """400; nothing was handed over."""
    problem(await submit(key), 400, "malformed-request")
    assert [] == broker.submitted


async def test_two_keys_are_malformed(http, broker):
    """Which of them should count?"""
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    problem(await http.post("/v1/jobs", json=JOB, headers=headers), 400, "malformed-request")
    assert [] == broker.submitted


async def test_a_finished_job_runs_again_under_its_id(http, store, broker, keyring):
    """As a new run, from the start: nothing of the last one goes along."""
    job = ENDED.model_copy(update={"id": keyring.issue("default")})
    store.project(JobSucceeded(job=job), 6)
    answer = await http.post(f"/v1/jobs/{job.id}/retry")
    assert (202, job.id, 2) == (answer.status_code, answer.json()["id"], answer.json()["run"])
    (again,) = broker.submitted
    assert (2, 0, None, job.params) == (again.job.run, again.job.turn, again.job.result, again.job.params)


async def test_the_next_run_is_shown_once_it_can_be_seen(http, store, broker, keyring):
    """Nobody takes the end of the last run for that of the next one; no version goes back."""
    job = ENDED.model_copy(update={"id": keyring.issue("default")})
    store.project(JobSucceeded(job=job), 6)
    unseen = await http.post(f"/v1/jobs/{job.id}/retry")
    assert (2, 6, 'W/"0"') == (unseen.json()["run"], unseen.json()["version"], unseen.headers["etag"])
    submit = broker.submit

    async def at_once(command):
        await submit(command)
        store.project(command, 9)

    broker.submit = at_once
    seen = await http.post(f"/v1/jobs/{job.id}/retry")
    assert (2, 9, '"9"') == (seen.json()["run"], seen.json()["version"], seen.headers["etag"])


async def test_there_is_an_end_to_how_often_a_job_runs(http, store, keyring):
    """Its runs are numbered with four digits."""
    job = ENDED.model_copy(update={"id": keyring.issue("default"), "run": 9_999})
    store.project(JobSucceeded(job=job), 6)
    problem(await http.post(f"/v1/jobs/{job.id}/retry"), 409, "runs-exhausted")


async def test_a_live_job_does_not_run_again(http, store, broker, keyring):
    """409: it would run twice."""
    job = RUNNING.model_copy(update={"id": keyring.issue("default")})
    store.project(JobStarted(job=job), 6)
    problem(await http.post(f"/v1/jobs/{job.id}/retry"), 409, "job-not-finished")
    assert [] == broker.submitted


async def test_what_is_unknown_does_not_run_again(http, store, keyring):
    """404; and 503 while nobody can say what it is."""
    problem(await http.post("/v1/jobs/unknown/retry"), 404, "unknown-job")
    problem(await http.post(f"/v1/jobs/{keyring.issue('default')}/retry"), 503, "status-unavailable")
    store.away = True
    problem(await http.post(f"/v1/jobs/{keyring.issue('default')}/retry"), 503, "status-unavailable")
