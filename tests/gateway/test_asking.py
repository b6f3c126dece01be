"""What a client may ask beside the status: when to come back, the result alone, how much there is to do."""

from datetime import timedelta
from email.utils import parsedate_to_datetime

import pytest
from problem_answers import problem
from samples import BEAT, ENDED, RUNNING, SUBMITTED

from milepost_contracts.envelope import now
from milepost_contracts.events import JobCanceled, JobFailed, JobProgressed, JobScheduled, JobSubmitted, JobSucceeded
from milepost_contracts.glance import Glance
from milepost_contracts.states import Status
from milepost_contracts.values import JobError
from milepost_gateway.api.responses import look_again_in


@pytest.fixture
def job_id(keyring):
    return keyring.issue("default")


@pytest.fixture
def project(store, job_id):
    """Say what became of the job."""

    def say(kind, job, **changes):
        store.project(kind(job=job.model_copy(update={"id": job_id, **changes})), 6)

    return say


def seen(status, *, eta=None, silent_for=0.0, runs_in=None, at=None):
    moment = at or now()
    run_at = None if runs_in is None else moment + timedelta(seconds=runs_in)
    return Glance(
        status=status,
        queue="default",
        eta=eta,
        run=1,
        tags=(),
        updated_at=moment - timedelta(seconds=silent_for),
        run_at=run_at,
    )


@pytest.mark.parametrize(
    "glance, low, high",
    [
        ({"status": Status.RUNNING, "eta": 2.0}, 1, 1),
        ({"status": Status.RUNNING, "eta": 40.0}, 9, 11),
        ({"status": Status.RUNNING, "eta": 1e9}, 30, 30),
        ({"status": Status.RUNNING, "silent_for": 0.5}, 1, 1),
        ({"status": Status.QUEUED, "silent_for": 40.0}, 9, 11),
        ({"status": Status.QUEUED, "silent_for": -3600.0}, 1, 1),
        ({"status": Status.QUEUED, "silent_for": 0.0, "usual_wait": 40.0}, 9, 11),
        ({"status": Status.QUEUED, "silent_for": 30.0, "usual_wait": 40.0}, 2, 3),
        ({"status": Status.QUEUED, "silent_for": 60.0, "usual_wait": 40.0}, 13, 17),
        ({"status": Status.RUNNING, "silent_for": 0.0, "usual_wait": 40.0}, 1, 1),
        ({"status": Status.SCHEDULED, "runs_in": 10.0}, 9, 11),
        ({"status": Status.SCHEDULED, "runs_in": 86_400.0}, 30, 30),
        ({"status": Status.RETRYING, "runs_in": -5.0}, 1, 1),
    ],
)
def test_a_client_is_asked_to_come_back_when_it_is_worth_it(glance, low, high):
    """From what is left where that is known, else from how long nothing has happened; 1 to 30 s."""
    glance = dict(glance)
    at = now()
    usual = glance.pop("usual_wait", None)
    told = {look_again_in(seen(**glance, at=at), at, usual_wait=usual) for _ in range(50)}
    assert low <= min(told) <= max(told) <= high


async def test_a_client_of_a_long_queue_is_asked_to_come_back_later(http, app, store):
    """From the 202 on: as its processors say how long jobs have waited lately, on average."""
    busy = BEAT.model_copy(update={"threads": len(BEAT.running)})
    store.beats = [busy.model_copy(update={"waits": {"default": seconds}}) for seconds in (40.0, 80.0)]
    await app.state.services.catalogue.processors()
    answer = await http.post("/v1/jobs", json={"type": "count"})
    assert 13 <= int(answer.headers["retry-after"]) <= 17
    assert "1" == (await http.post("/v1/jobs", json={"type": "crunch"})).headers["retry-after"]
    store.beats.append(BEAT.model_copy(update={"queues": ("default",), "threads": 99}))
    await app.state.services.catalogue.processors()
    answer = await http.post("/v1/jobs", json={"type": "count"})
    assert "1" == answer.headers["retry-after"], "somebody has a thread to spare"


async def test_an_ended_job_says_until_when_it_is_remembered(http, project, job_id):
    """RFC 8594; and there is nothing to come back for."""
    project(JobSucceeded, ENDED)
    answer = await http.get(f"/v1/jobs/{job_id}")
    assert ENDED.finished_at + timedelta(days=7) - parsedate_to_datetime(answer.headers["sunset"]) < timedelta(
        seconds=1
    )
    assert "retry-after" not in answer.headers


async def test_the_result_alone_is_what_the_handler_returned(http, project, job_id):
    """With the ETag of the job."""
    project(JobSucceeded, ENDED, result={"n": [1, None, "é"]})
    answer = await http.get(f"/v1/jobs/{job_id}/result")
    assert (200, {"n": [1, None, "é"]}, '"6"') == (answer.status_code, answer.json(), answer.headers["etag"])
    again = await http.get(f"/v1/jobs/{job_id}/result", headers={"If-None-Match": '"6"'})
    assert (304, b"") == (again.status_code, again.content)


async def test_a_job_that_is_not_done_has_no_result_yet(http, project, job_id):
    """202 and when to come back."""
    project(JobProgressed, RUNNING)
    answer = await http.get(f"/v1/jobs/{job_id}/result")
    assert (202, "running") == (answer.status_code, answer.json()["status"])
    assert "retry-after" in answer.headers


async def test_a_job_that_ended_without_a_result_says_why(http, project, job_id):
    """As a problem, with the job's own words."""
    project(JobFailed, ENDED, error=JobError(kind="exception", message="no such file"), result=None)
    assert "no such file" == problem(await http.get(f"/v1/jobs/{job_id}/result"), 409, "job-failed")["detail"]
    project(JobCanceled, ENDED, result=None)
    problem(await http.get(f"/v1/jobs/{job_id}/result"), 409, "job-canceled")
    problem(await http.get("/v1/jobs/unknown/result"), 404, "unknown-job")


async def test_a_look_may_lead_to_the_result(http, project, job_id):
    """303, for clients that follow it; while there is none, the status."""
    project(JobProgressed, RUNNING)
    assert 200 == (await http.get(f"/v1/jobs/{job_id}?redirect=true")).status_code
    project(JobSucceeded, ENDED)
    answer = await http.get(f"/v1/jobs/{job_id}?redirect=true")
    assert (303, f"http://gateway.test/v1/jobs/{job_id}/result") == (answer.status_code, answer.headers["location"])
    project(JobCanceled, ENDED, result=None)
    assert 200 == (await http.get(f"/v1/jobs/{job_id}?redirect=true")).status_code


async def test_a_job_that_nobody_will_run_says_so(http, app, store, project, job_id, monkeypatch):
    """The commonest cause of 'stuck in pending' that nobody else tells."""
    monkeypatch.setattr("milepost_gateway.catalogue.SILENT_FOR", 0.0)
    catalogue = app.state.services.catalogue
    project(JobSubmitted, SUBMITTED, queue="gpu")
    known = await http.get(f"/v1/jobs/{job_id}")
    assert None is known.json()["waiting"], "nobody has looked yet"
    monkeypatch.setattr("milepost_gateway.catalogue.SILENT_FOR", 5.0)
    catalogue._begun_at -= 10
    await catalogue.processors()
    answer = await http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": known.headers["etag"]})
    assert 200 == answer.status_code, "it is news"
    assert "no-live-processor" == answer.json()["waiting"]["reason"]
    assert "gpu" in answer.json()["waiting"]["detail"]
    same = await http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": answer.headers["etag"]})
    assert 304 == same.status_code
    store.beats = [BEAT.model_copy(update={"queues": ("gpu",)})]
    await catalogue.processors()
    assert None is (await http.get(f"/v1/jobs/{job_id}")).json()["waiting"]


async def test_only_a_job_that_waits_for_a_processor_waits_in_vain(http, app, project, job_id):
    """One that is scheduled waits for its time."""
    app.state.services.catalogue._begun_at -= 100
    await app.state.services.catalogue.processors()
    project(JobScheduled, SUBMITTED, queue="gpu", run_at=now() + timedelta(days=1))
    assert None is (await http.get(f"/v1/jobs/{job_id}")).json()["waiting"]


async def test_jobs_are_counted_by_their_state(http, store, project):
    """All states are there, and 'counts' is no job's id."""
    project(JobSucceeded, ENDED)
    answer = await http.get("/v1/jobs/counts")
    assert {status: int(status == "succeeded") for status in Status} == answer.json()
    problem(await http.get("/v1/jobs/counts?tag=nightly"), 400, "malformed-request")
    store.away = True
    problem(await http.get("/v1/jobs/counts"), 503, "status-unavailable")


async def test_queues_say_how_full_they_are_and_who_serves_them(http, store, broker):
    """Those of every type, and of every processor."""
    items = {one["name"]: one for one in (await http.get("/v1/queues")).json()["items"]}
    assert {"default", "cpu"} <= set(items)
    assert (0, 1, 1, BEAT.threads) == tuple(
        items[BEAT.queues[0]][name] for name in ("ready", "consumers", "live_processors", "threads")
    )
    broker.error = RuntimeError
    problem(await http.get("/v1/queues"), 503, "status-unavailable")


@pytest.fixture
def jobs(store, keyring):
    """Ten jobs, a minute apart, the newest first; each second one tagged, each third one of another queue."""
    made = []
    for number in range(10):
        created = SUBMITTED.created_at - timedelta(minutes=number)
        tags = ("nightly",) if number % 2 == 0 else ()
        changes = {"id": keyring.issue("default"), "created_at": created, "tags": tags}
        job = SUBMITTED.model_copy(update=changes | {"queue": "cpu" if number % 3 == 0 else "default"})
        store.project(JobSubmitted(job=job))
        made.append(job)
    return made


async def walk(http, query):
    """Return the ids of all pages."""
    ids, url = [], f"/v1/jobs?{query}"
    while url:
        page = (await http.get(url)).json()
        ids += [item["id"] for item in page["items"]]
        url = page["next"]
    return ids


@pytest.mark.parametrize("limit", [1, 3, 200])
@pytest.mark.parametrize(
    "query, numbers",
    [
        ("", range(10)),
        ("tag=nightly", [0, 2, 4, 6, 8]),
        ("queue=cpu", [0, 3, 6, 9]),
        ("queue=cpu&tag=nightly", [0, 6]),
        ("tag=other", []),
        ("status=queued&type=digest-files", range(10)),
        ("status=running", []),
    ],
)
async def test_a_listing_has_what_was_asked_for_newest_first(http, jobs, query, numbers, limit, monkeypatch):
    """Whatever the pages; the newest is the one that was created last, whatever its id says."""
    monkeypatch.setattr("milepost_gateway.status.AT_ONCE", 4)
    monkeypatch.setattr("milepost_gateway.status.MOST_LOOKS", 2)
    assert [jobs[number].id for number in numbers] == await walk(http, f"{query}&limit={limit}")


async def test_a_listing_may_end_at_a_time(http, jobs):
    """Exclusively."""
    after = jobs[4].created_at.isoformat().replace("+", "%2B")
    assert [job.id for job in jobs[:4]] == await walk(http, f"created_after={after}&limit=3")


@pytest.mark.parametrize(
    "query", ["created_after=yesterday", "created_after=0", "created_after=2026-01-01T00:00:00", "tag=", "queue=A"]
)
async def test_a_filter_that_does_not_fit_is_malformed(http, query):
    """A time without a zone means different things to different readers."""
    said = problem(await http.get(f"/v1/jobs?{query}"), 400, "malformed-request")["detail"]
    assert said.startswith(f"query.{query.partition('=')[0]}: ")
    assert "Value error" not in said
