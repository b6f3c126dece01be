"""Many jobs in one request."""

from datetime import timedelta

import pytest
from problem_answers import problem
from samples import ENDED, RUNNING

from milepost_contracts.access import Access, Limits
from milepost_contracts.envelope import now
from milepost_contracts.events import JobStarted, JobSucceeded
from milepost_gateway.errors import NotAccepted, OutcomeUnknown

COUNT = {"type": "count", "params": {"steps": 1}}


@pytest.fixture
def submit(http):
    async def post(*jobs, **headers):
        return await http.post("/v1/jobs:batch", json={"jobs": list(jobs)}, headers=headers)

    return post


async def test_each_job_is_accepted_or_refused_by_itself(submit, http, broker):
    """In the order of the request, each refusal with its problem, its places within the whole body."""
    unfit = {"type": "count", "params": {"steps": "x"}}
    answer = await submit(COUNT, unfit, {"type": "cuont"}, {"typ": "count"}, 7, COUNT)
    assert 207 == answer.status_code
    told = answer.json()
    assert [202, 422, 422, 422, 422, 202] == [item["status"] for item in told["items"]]
    assert (2, 4) == (told["accepted"], told["refused"])
    slugs = [item["problem"]["type"].partition("#")[2] for item in told["items"][1:5]]
    assert ["invalid-params", "unknown-job-type", "invalid-request", "invalid-request"] == slugs
    assert "/jobs/1/params/steps" == told["items"][1]["problem"]["errors"][0]["pointer"]
    assert "count" in told["items"][2]["problem"]["detail"]
    assert [item["job_id"] for item in (told["items"][0], told["items"][5])] == [c.job.id for c in broker.submitted]
    assert {told["id"]} == {command.job.batch for command in broker.submitted}
    assert 200 == (await http.get(told["items"][0]["url"])).status_code
    assert told["url"] == answer.headers["location"] == answer.headers["operation-location"]


async def test_a_thousand_jobs_are_many_enough(submit, broker):
    """One more is refused as a whole, and so is none."""
    answer = await submit(*[COUNT] * 1_000)
    assert (207, 1_000, 1_000) == (answer.status_code, answer.json()["accepted"], len(broker.submitted))
    assert 1_000 == len({command.job.id for command in broker.submitted})
    problem(await submit(*[COUNT] * 1_001), 422, "invalid-request")
    problem(await submit(), 422, "invalid-request")


async def test_a_batch_without_one_job_that_fits_is_none(submit):
    """There is nothing to look at."""
    answer = await submit({"type": "nothing"})
    told = answer.json()
    assert (207, 0, None) == (answer.status_code, told["accepted"], told["id"])
    assert "location" not in answer.headers


async def test_how_far_a_batch_is(submit, http, store, broker):
    """By how many of its jobs are in each state; those that no tracker has seen are counted as such."""
    answer = await submit(*[COUNT] * 4)
    for (kind, base), command in zip(((JobStarted, RUNNING), (JobSucceeded, ENDED)), broker.submitted, strict=False):
        store.project(kind(job=base.model_copy(update={"id": command.job.id, "batch": command.job.batch})))
    looked = await http.get(answer.headers["location"])
    told = looked.json()
    assert (4, 2, 1, 25.0) == (told["size"], told["unseen"], told["ended"], told["percent"])
    assert (1, 1, 0) == (told["counts"]["running"], told["counts"]["succeeded"], told["counts"]["failed"])
    assert looked.headers["retry-after"].isdigit()
    listed = (await http.get(told["links"]["jobs"])).json()["items"]
    assert 2 == len(listed)
    assert {told["id"]} == {one["batch"] for one in listed}
    only = (await http.get(told["links"]["jobs"], params={"batch": told["id"], "status": "running"})).json()["items"]
    assert ["running"] == [one["status"] for one in only]
    problem(await http.get("/v1/jobs", params={"batch": told["id"], "type": "count"}), 400, "malformed-request")


async def test_a_batch_that_has_ended_needs_no_second_look(submit, http, store, broker):
    """All of its jobs have."""
    answer = await submit(COUNT)
    job = broker.submitted[0].job
    store.project(JobSucceeded(job=ENDED.model_copy(update={"id": job.id, "batch": job.batch})))
    looked = await http.get(answer.headers["location"])
    assert (100.0, "retry-after" in looked.headers) == (looked.json()["percent"], False)


async def test_a_batch_that_was_never_issued_is_unknown(submit, http, keyring):
    """Not to another tenant, not of another size, and a job is no batch."""
    batch_id = (await submit(COUNT, COUNT)).json()["id"]
    job_id = keyring.issue("default")
    for wrong in (batch_id[:-1] + "3", batch_id[:-3], batch_id + "0", job_id, job_id + "001", "x", batch_id.upper()):
        problem(await http.get(f"/v1/batches/{wrong}"), 404, "unknown-batch")
        problem(await http.get("/v1/jobs", params={"batch": wrong}), 404, "unknown-batch")
    problem(await http.get(f"/v1/jobs/{batch_id}"), 404, "unknown-job")


async def test_what_the_broker_does_not_take_is_told_and_a_repeat_hands_it_over(submit, broker):
    """With a key: the same jobs under the same ids, and those that were missing."""
    taken = []

    def refuse(command):
        taken.append(command.job.id)
        return NotAccepted("away") if len(taken) % 2 else OutcomeUnknown(command.job.id, "silent")

    broker.error = refuse
    first = (await submit(COUNT, COUNT, **{"Idempotency-Key": "1"})).json()
    assert [503, 503] == [item["status"] for item in first["items"]]
    assert {"not-accepted", "outcome-unknown"} == {item["problem"]["type"].partition("#")[2] for item in first["items"]}
    broker.error = None
    second = (await submit(COUNT, COUNT, **{"Idempotency-Key": "1"})).json()
    assert (2, first["id"]) == (second["accepted"], second["id"])
    assert sorted(taken) == sorted(item["job_id"] for item in second["items"])
    third = (await submit(COUNT, COUNT, **{"Idempotency-Key": "1"})).json()
    assert second == third
    other = await submit(COUNT, **{"Idempotency-Key": "1"})
    problem(other, 422, "key-reused")


async def test_a_key_for_a_batch_is_no_key_for_a_job(submit, http, broker):
    """It is kept by what it was used for."""
    batch = (await submit(COUNT, **{"Idempotency-Key": "1"})).json()
    job = await http.post("/v1/jobs", json=COUNT, headers={"Idempotency-Key": "1"})
    assert 202 == job.status_code
    assert batch["items"][0]["job_id"] != job.json()["id"]


async def test_a_batch_counts_as_many_jobs(submit, app, rules, broker):
    """All or none: the tenant's limits are its own affair."""
    rules.access = Access(limits={"default": Limits(live_jobs=3)})
    problem(await submit(*[COUNT] * 4), 429, "too-many-jobs")
    assert [] == broker.submitted
    assert 207 == (await submit(*[COUNT] * 3)).status_code


@pytest.mark.parametrize("body", [{}, {"jobs": {}}, {"jobs": [COUNT], "more": 1}, []])
async def test_a_body_that_is_no_batch_is_refused_whole(http, broker, body):
    """Nothing of it is handed over."""
    problem(await http.post("/v1/jobs:batch", json=body), 422, "invalid-request")
    assert [] == broker.submitted


async def test_a_repeat_after_midnight_hands_over_the_same_jobs(submit, broker, monkeypatch):
    """And after a new key signs ids: they follow from the first request."""
    first = (await submit(COUNT, COUNT, **{"Idempotency-Key": "1"})).json()
    monkeypatch.setattr(
        "milepost_gateway.idempotency.Idempotency._day", lambda self: now().replace(microsecond=0) + timedelta(days=1)
    )
    assert first == (await submit(COUNT, COUNT, **{"Idempotency-Key": "1"})).json()
    assert 2 == len({command.job.id for command in broker.submitted})


async def test_a_repeat_has_the_batch_of_the_first_request_though_more_jobs_fit(submit, store, app):
    """Whoever looks at the first one sees it end."""
    late = {"type": "late"}
    first = (await submit(COUNT, late, **{"Idempotency-Key": "1"})).json()
    store.types.append(store.types[0].model_copy(update={"type": "late", "params_schema": {}}))
    await app.state.services.catalogue.refresh()
    second = (await submit(COUNT, late, **{"Idempotency-Key": "1"})).json()
    assert (1, 2, first["id"]) == (first["accepted"], second["accepted"], second["id"])


async def test_a_repeat_is_not_counted_again(submit, rules):
    """Its jobs are there already."""
    rules.access = Access(limits={"default": Limits(live_jobs=3)})
    for _ in range(3):
        assert 207 == (await submit(COUNT, COUNT, **{"Idempotency-Key": "1"})).status_code


async def test_the_ids_of_a_batch_are_nobody_elses(submit, http):
    """Whatever key a single job has."""
    batch = (await submit(COUNT, **{"Idempotency-Key": "foo"})).json()
    for key in ("batch foo", "batch foo 0", "foo 0", "foo"):
        job = await http.post("/v1/jobs", json=COUNT, headers={"Idempotency-Key": f'"{key}"'})
        assert job.json()["id"] != batch["items"][0]["job_id"]
