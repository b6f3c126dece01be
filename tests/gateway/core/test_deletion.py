"""Deletion of a job before its retention time is over."""

from datetime import timedelta

import pytest
from problem_answers import problem
from samples import ENDED, RUNNING

from milepost_contracts.messages.job_events import JobStarted, JobSucceeded
from milepost_gateway.errors import NotAccepted


@pytest.fixture
def job_id(keyring):
    return keyring.issue("default")


@pytest.fixture
def project(view, job_id):
    """Return a function that projects an event of the job."""
    return lambda kind, job: view.project(kind(job=job.model_copy(update={"id": job_id})))


async def test_a_finished_job_is_deleted_and_then_its_files(
    app, http, broker, blob_store, view, project, job_id, monkeypatch
):
    """204 once the request is confirmed; the files follow later, so that a run accepted meanwhile finds them."""
    project(JobSucceeded, ENDED)
    blob_store.stored = {f"jobs/{job_id}/0000": b"1", f"jobs/{job_id}/abcd/0001": b"2", "jobs/other/0000": b"3"}
    answer = await http.delete(f"/v1/jobs/{job_id}")
    assert (204, b"") == (answer.status_code, answer.content)
    (deletion,) = broker.requests
    assert ("job.deleted", job_id, 1) == (deletion.fact, deletion.request.job_id, deletion.request.run)
    monkeypatch.setattr("milepost_gateway.core.orphaned_files.DELETION_GRACE", timedelta(0))
    orphaned_files = app.state.dependencies.orphaned_files
    assert 0 == await orphaned_files.sweep_deleted(), "another run may have been accepted"
    assert 3 == len(blob_store.stored)
    view.deleted.add(job_id)
    assert 204 != (await http.delete(f"/v1/jobs/{job_id}")).status_code
    orphaned_files.remove_deleted(job_id)
    assert 2 == await orphaned_files.sweep_deleted()
    assert ["jobs/other/0000"] == list(blob_store.stored)


async def test_a_deleted_job_gets_410(http, view, project, job_id):
    """On every path, as after its retention time."""
    project(JobSucceeded, ENDED)
    view.deleted.add(job_id)
    for path in ("", "/result", "/events"):
        problem(await http.get(f"/v1/jobs/{job_id}{path}"), 410, "job-expired")
    problem(await http.delete(f"/v1/jobs/{job_id}"), 410, "job-expired")
    problem(await http.post(f"/v1/jobs/{job_id}/retry"), 410, "job-expired")


async def test_a_live_job_can_not_be_deleted(http, broker, project, job_id):
    """409: cancel it first."""
    project(JobStarted, RUNNING)
    problem(await http.delete(f"/v1/jobs/{job_id}"), 409, "job-not-finished")
    assert [] == broker.requests


async def test_a_job_is_not_deleted_while_the_broker_is_away(http, broker, blob_store, project, job_id):
    """503, and its files stay."""
    project(JobSucceeded, ENDED)
    blob_store.stored = {f"jobs/{job_id}/0000": b"1"}
    broker.error = lambda _: NotAccepted("away")
    problem(await http.delete(f"/v1/jobs/{job_id}"), 503, "not-accepted")
    assert blob_store.stored
