"""Forgetting a job before its retention time is over."""

from datetime import timedelta

import pytest
from problem_answers import problem
from samples import ENDED, RUNNING

from milepost_contracts.events import JobStarted, JobSucceeded
from milepost_gateway.errors import NotAccepted


@pytest.fixture
def job_id(keyring):
    return keyring.issue("default")


@pytest.fixture
def project(store, job_id):
    """Say what became of the job."""
    return lambda kind, job: store.project(kind(job=job.model_copy(update={"id": job_id})))


async def test_a_finished_job_is_forgotten_and_its_files_once_that_is_seen(
    app, http, broker, blobs, store, project, job_id, monkeypatch
):
    """204 once that is a durable fact; a run that was accepted meanwhile still finds its files."""
    project(JobSucceeded, ENDED)
    blobs.stored = {f"jobs/{job_id}/0000": b"1", f"jobs/{job_id}/abcd/0001": b"2", "jobs/other/0000": b"3"}
    answer = await http.delete(f"/v1/jobs/{job_id}")
    assert (204, b"") == (answer.status_code, answer.content)
    (said,) = broker.requests
    assert ("job.forgotten", job_id, 1) == (said.fact, said.forgotten.job_id, said.forgotten.run)
    monkeypatch.setattr("milepost_gateway.leftovers.SETTLED_AFTER", timedelta(0))
    leftovers = app.state.services.leftovers
    assert 0 == await leftovers.sweep_wanted(), "another run may be on its way"
    assert 3 == len(blobs.stored)
    store.gone.add(job_id)
    assert 204 != (await http.delete(f"/v1/jobs/{job_id}")).status_code
    leftovers.look_soon(job_id)
    assert 2 == await leftovers.sweep_wanted()
    assert ["jobs/other/0000"] == list(blobs.stored)


async def test_what_is_forgotten_is_gone(http, store, project, job_id):
    """410 on every path, as after its retention time."""
    project(JobSucceeded, ENDED)
    store.gone.add(job_id)
    for path in ("", "/result", "/events"):
        problem(await http.get(f"/v1/jobs/{job_id}{path}"), 410, "job-expired")
    problem(await http.delete(f"/v1/jobs/{job_id}"), 410, "job-expired")
    problem(await http.post(f"/v1/jobs/{job_id}/retry"), 410, "job-expired")


async def test_a_live_job_is_not_forgotten(http, broker, project, job_id):
    """409: cancel it first."""
    project(JobStarted, RUNNING)
    problem(await http.delete(f"/v1/jobs/{job_id}"), 409, "job-not-finished")
    assert [] == broker.requests


async def test_a_job_is_not_forgotten_while_nobody_can_store_that(http, broker, blobs, project, job_id):
    """503, and its files stay."""
    project(JobSucceeded, ENDED)
    blobs.stored = {f"jobs/{job_id}/0000": b"1"}
    broker.error = lambda _: NotAccepted("away")
    problem(await http.delete(f"/v1/jobs/{job_id}"), 503, "not-accepted")
    assert blobs.stored
