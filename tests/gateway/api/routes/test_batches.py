"""Batches: many jobs in one request."""

from datetime import timedelta

import pytest
from problem_answers import problem
from samples import ENDED, RUNNING

from milepost_contracts.clock import now
from milepost_contracts.http.access import Access, Limits
from milepost_contracts.messages.job_events import JobStarted, JobSucceeded
from milepost_gateway.errors import NotAccepted, OutcomeUnknown

COUNT = {"type": "count", "params": {"steps": 1}}


@pytest.fixture
def submit(http):
    async def post(*jobs, **headers):
        return await http.post("/v1/jobs:batch", json={"jobs": list(jobs)}, headers=headers)

    return post


async def test_each_job_of_a_batch_is_accepted_or_refused_separately(submit, http, broker):
    """207 in the order of the request; the pointers of a refusal refer to the whole body."""
    invalid = {"type": "count", "params": {"steps": "x"}}
    answer = await submit(COUNT, invalid, {"type": "cuont"}, {"typ": "count"}, 7, COUNT)
    assert 207 == answer.status_code
    body = answer.json()
    assert [202, 422, 422, 422, 422, 202] == [item["status"] for item in body["items"]]
    assert (2, 4) == (body["accepted"], body["refused"])
    slugs = [item["problem"]["type"].partition("#")[2] for item in body["items"][1:5]]
    assert ["invalid-params", "unknown-job-type", "invalid-request", "invalid-request"] == slugs
    assert "/jobs/1/params/steps" == body["items"][1]["problem"]["errors"][0]["pointer"]
    assert "count" in body["items"][2]["problem"]["detail"]
    assert [item["job_id"] for item in (body["items"][0], body["items"][5])] == [c.job.id for c in broker.submitted]
    assert {body["id"]} == {command.job.batch for command in broker.submitted}
    assert 200 == (await http.get(body["items"][0]["url"])).status_code
    assert body["url"] == answer.headers["location"] == answer.headers["operation-location"]


async def test_a_batch_has_1_to_1000_jobs(submit, broker):
    """A larger or an empty batch is refused as a whole."""
    answer = await submit(*[COUNT] * 1_000)
    assert (207, 1_000, 1_000) == (answer.status_code, answer.json()["accepted"], len(broker.submitted))
    assert 1_000 == len({command.job.id for command in broker.submitted})
    problem(await submit(*[COUNT] * 1_001), 422, "invalid-request")
    problem(await submit(), 422, "invalid-request")


async def test_a_batch_without_an_accepted_job_has_no_id(submit):
    """There is nothing to poll, so there is no Location."""
    answer = await submit({"type": "nothing"})
    body = answer.json()
    assert (207, 0, None) == (answer.status_code, body["accepted"], body["id"])
    assert "location" not in answer.headers


async def test_a_batch_shows_its_progress(submit, http, view, broker):
    """The number of jobs in each status; jobs that no tracker has seen are counted as unseen."""
    answer = await submit(*[COUNT] * 4)
    for (kind, base), command in zip(((JobStarted, RUNNING), (JobSucceeded, ENDED)), broker.submitted, strict=False):
        view.project(kind(job=base.model_copy(update={"id": command.job.id, "batch": command.job.batch})))
    response = await http.get(answer.headers["location"])
    batch = response.json()
    assert (4, 2, 1, 25.0) == (batch["size"], batch["unseen"], batch["ended"], batch["percent"])
    assert (1, 1, 0) == (batch["counts"]["running"], batch["counts"]["succeeded"], batch["counts"]["failed"])
    assert response.headers["retry-after"].isdigit()
    listed = (await http.get(batch["links"]["jobs"])).json()["items"]
    assert 2 == len(listed)
    assert {batch["id"]} == {job["batch"] for job in listed}
    running = (await http.get(batch["links"]["jobs"], params={"batch": batch["id"], "status": "running"})).json()[
        "items"
    ]
    assert ["running"] == [job["status"] for job in running]
    problem(await http.get("/v1/jobs", params={"batch": batch["id"], "type": "count"}), 400, "malformed-request")


async def test_an_ended_batch_has_no_retry_after(submit, http, view, broker):
    """A batch has ended when all of its jobs have."""
    answer = await submit(COUNT)
    job = broker.submitted[0].job
    view.project(JobSucceeded(job=ENDED.model_copy(update={"id": job.id, "batch": job.batch})))
    response = await http.get(answer.headers["location"])
    assert (100.0, "retry-after" in response.headers) == (response.json()["percent"], False)


@pytest.mark.parametrize("age, expired", [(timedelta(days=6), 0), (timedelta(days=8), 2)])
async def test_the_progress_of_a_batch_does_not_go_back_when_its_jobs_expire(http, view, keyring, age, expired):
    """After the retention, a job that is missing has expired, so it has ended; before, no tracker has seen it yet."""
    batch_id = keyring.issue("batch of 4 default", at=now() - age) + "004"
    for kind, base in ((JobStarted, RUNNING), (JobSucceeded, ENDED)):
        view.project(kind(job=base.model_copy(update={"id": keyring.issue("default"), "batch": batch_id})))
    batch = (await http.get(f"/v1/batches/{batch_id}")).json()
    assert (expired, 2 - expired, 1 + expired) == (batch["expired"], batch["unseen"], batch["ended"])
    assert 25.0 * batch["ended"] == batch["percent"]


async def test_a_batch_that_was_never_issued_is_unknown(submit, http, keyring):
    """404 for a batch id of another size, a malformed id and a job id; a batch id is no job id."""
    batch_id = (await submit(COUNT, COUNT)).json()["id"]
    job_id = keyring.issue("default")
    for wrong in (batch_id[:-1] + "3", batch_id[:-3], batch_id + "0", job_id, job_id + "001", "x", batch_id.upper()):
        problem(await http.get(f"/v1/batches/{wrong}"), 404, "unknown-batch")
        problem(await http.get("/v1/jobs", params={"batch": wrong}), 404, "unknown-batch")
    problem(await http.get(f"/v1/jobs/{batch_id}"), 404, "unknown-job")


async def test_a_repeat_submits_the_jobs_that_were_not_confirmed(submit, broker):
    """503 for each such job; a repeat with the same key submits them under the same ids."""
    attempted = []

    def refuse(command):
        attempted.append(command.job.id)
        return NotAccepted("away") if len(attempted) % 2 else OutcomeUnknown(command.job.id, "silent")

    broker.error = refuse
    first = (await submit(COUNT, COUNT, **{"Idempotency-Key": "1"})).json()
    assert [503, 503] == [item["status"] for item in first["items"]]
    assert {"not-accepted", "outcome-unknown"} == {item["problem"]["type"].partition("#")[2] for item in first["items"]}
    broker.error = None
    second = (await submit(COUNT, COUNT, **{"Idempotency-Key": "1"})).json()
    assert (2, first["id"]) == (second["accepted"], second["id"])
    assert sorted(attempted) == sorted(item["job_id"] for item in second["items"])
    third = (await submit(COUNT, COUNT, **{"Idempotency-Key": "1"})).json()
    assert second == third
    other = await submit(COUNT, **{"Idempotency-Key": "1"})
    problem(other, 422, "key-reused")


async def test_keys_of_batches_and_of_jobs_are_separate(submit, http, broker):
    """The same Idempotency-Key on both routes makes different jobs."""
    batch = (await submit(COUNT, **{"Idempotency-Key": "1"})).json()
    job = await http.post("/v1/jobs", json=COUNT, headers={"Idempotency-Key": "1"})
    assert 202 == job.status_code
    assert batch["items"][0]["job_id"] != job.json()["id"]


async def test_every_job_of_a_batch_counts_towards_the_quota(submit, app, rules, broker):
    """A batch over the quota is refused as a whole."""
    rules.access = Access(limits={"default": Limits(live_jobs=3)})
    problem(await submit(*[COUNT] * 4), 429, "too-many-jobs")
    assert [] == broker.submitted
    assert 207 == (await submit(*[COUNT] * 3)).status_code


@pytest.mark.parametrize("body", [{}, {"jobs": {}}, {"jobs": [COUNT], "more": 1}, []])
async def test_an_invalid_batch_body_is_refused(http, broker, body):
    """No job is submitted."""
    problem(await http.post("/v1/jobs:batch", json=body), 422, "invalid-request")
    assert [] == broker.submitted


async def test_a_repeat_after_midnight_submits_the_same_jobs(submit, broker, monkeypatch):
    """The job ids derive from the first request, not from the date of the repeat."""
    first = (await submit(COUNT, COUNT, **{"Idempotency-Key": "1"})).json()
    monkeypatch.setattr(
        "milepost_gateway.core.idempotency.Idempotency._period_start",
        lambda self: now().replace(microsecond=0) + timedelta(days=1),
    )
    assert first == (await submit(COUNT, COUNT, **{"Idempotency-Key": "1"})).json()
    assert 2 == len({command.job.id for command in broker.submitted})


async def test_a_repeat_that_accepts_more_jobs_keeps_the_batch_id(submit, app, worker_store):
    """A client that polls the first batch sees it end."""
    late = {"type": "late"}
    first = (await submit(COUNT, late, **{"Idempotency-Key": "1"})).json()
    worker_store.types.append(worker_store.types[0].model_copy(update={"type": "late", "params_schema": {}}))
    await app.state.dependencies.job_types.refresh()
    second = (await submit(COUNT, late, **{"Idempotency-Key": "1"})).json()
    assert (1, 2, first["id"]) == (first["accepted"], second["accepted"], second["id"])


async def test_a_repeat_does_not_count_towards_the_quota_again(submit, rules):
    """Its jobs already exist."""
    rules.access = Access(limits={"default": Limits(live_jobs=3)})
    for _ in range(3):
        assert 207 == (await submit(COUNT, COUNT, **{"Idempotency-Key": "1"})).status_code


async def test_no_key_of_a_single_job_yields_the_id_of_a_batch_job(submit, http):
    """Ids derived from the key of a batch and from the key of a job differ."""
    batch = (await submit(COUNT, **{"Idempotency-Key": "foo"})).json()
    for key in ("batch foo", "batch foo 0", "foo 0", "foo"):
        job = await http.post("/v1/jobs", json=COUNT, headers={"Idempotency-Key": f'"{key}"'})
        assert job.json()["id"] != batch["items"][0]["job_id"]
