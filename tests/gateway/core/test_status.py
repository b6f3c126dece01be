"""`GET /v1/jobs/{id}`, listings, job types, processors and health; which error each id, query and path gets."""

from datetime import UTC, datetime, timedelta

import pytest
from problem_answers import problem
from samples import ENDED

from milepost_contracts.ids import Keyring, SigningKey
from milepost_contracts.messages.job_events import JobSucceeded

JOB = {"type": "count", "params": {}}


async def test_a_job_is_found_from_its_202_on(http):
    """Before a tracker has seen it: the id proves that it was issued."""
    job_id = (await http.post("/v1/jobs", json=JOB)).json()["id"]
    response = await http.get(f"/v1/jobs/{job_id}")
    assert (200, "queued", 0) == (response.status_code, response.json()["status"], response.json()["version"])
    assert ('W/"0"', "1", "private, no-cache") == tuple(
        response.headers[name] for name in ("etag", "retry-after", "cache-control")
    )


async def test_the_latest_version_gets_304(http, view, broker):
    """For If-None-Match with a strong or a weak ETag, a list, or `*`."""
    await http.post("/v1/jobs", json=JOB)
    view.project(broker.submitted[0], version=7)
    path = f"/v1/jobs/{broker.submitted[0].job.id}"
    for condition in ('"7"', 'W/"7"', '"6", "7"', "*"):
        response = await http.get(path, headers={"If-None-Match": condition})
        assert (304, b"", '"7"') == (response.status_code, response.content, response.headers["etag"])
    for condition in ('"6"', "7", "garbage"):
        assert 200 == (await http.get(path, headers={"If-None-Match": condition})).status_code


async def test_an_ended_job_has_no_retry_after(http, view, broker):
    """Only live jobs have one."""
    await http.post("/v1/jobs", json=JOB)
    job_id = broker.submitted[0].job.id
    view.project(JobSucceeded(job=ENDED.model_copy(update={"id": job_id})), version=3)
    assert "retry-after" not in (await http.get(f"/v1/jobs/{job_id}")).headers


@pytest.mark.parametrize(
    "job_id",
    [
        "unknown",
        "0" * 40,
        pytest.param(Keyring([SigningKey(number=1, secret=b"s" * 32)]).issue("another tenant"), id="of another tenant"),
        pytest.param(Keyring([SigningKey(number=1, secret=b"another key     ")]).issue("default"), id="of another key"),
        "%00",
        "a%0d%0ab",
        "..%2Fjobs",
        "é",
        "x" * 5000,
    ],
    ids=lambda text: text[:12],
)
async def test_an_id_that_was_never_issued_here_is_not_found(http, job_id):
    """Invented, of another tenant or of another deployment: the same 404."""
    body = problem(await http.get(f"/v1/jobs/{job_id}"), 404, None)
    assert job_id not in body["detail"]


async def test_every_unknown_id_gets_the_same_body(http, keyring):
    """The response does not reveal whether another tenant has such a job."""
    answers = [
        (await http.get(f"/v1/jobs/{job_id}")).json() for job_id in ("0" * 40, keyring.issue("another tenant"), "x")
    ]
    for answer in answers:
        del answer["instance"]
    assert answers[0] == answers[1] == answers[2]


async def test_an_expired_job_gets_410(http, keyring):
    """Not 404, as the id was issued."""
    old = keyring.issue("default", at=datetime.now(UTC) - timedelta(days=8))
    problem(await http.get(f"/v1/jobs/{old}"), 410, "job-expired")


async def test_an_issued_id_gets_503_while_redis_is_away(http, view, keyring):
    """Never 404; an invented id still gets 404, as that needs no read."""
    view.away = True
    response = await http.get(f"/v1/jobs/{keyring.issue('default')}")
    problem(response, 503, "status-unavailable")
    assert "retry-after" in response.headers
    problem(await http.get("/v1/jobs/unknown"), 404, "unknown-job")
    for path in ("/v1/jobs", "/v1/job-types", "/v1/processors"):
        problem(await http.get(path), 503, "status-unavailable")


async def test_a_listing_has_pages(http, view, broker):
    """Newest first; `next` and Link lead to the next page, and are missing on the last one."""
    for _ in range(5):
        await http.post("/v1/jobs", json=JOB)
        view.project(broker.submitted[-1])
    ids, url = [], "/v1/jobs?limit=2"
    while url:
        response = await http.get(url)
        page = response.json()
        ids += [item["id"] for item in page["items"]]
        url = page["next"]
        assert (url is None) == ("link" not in response.headers)
        assert url is None or f'<{url}>; rel="next"' == response.headers["link"]
    assert sorted((command.job.id for command in broker.submitted), reverse=True) == ids


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "status=done", "type=UPPER", "cursor=garbage", "cursor=%00", "cursor=YQ"],
)
async def test_an_invalid_query_is_malformed(http, query):
    """400 that names the parameter."""
    body = problem(await http.get(f"/v1/jobs?{query}"), 400, "malformed-request")
    assert query.partition("=")[0] in body["detail"]


async def test_job_types_show_their_live_processors(http):
    """A type without one is the most common cause of a job that stays queued."""
    items = (await http.get("/v1/job-types")).json()["items"]
    assert [("count", 1), ("crunch", 0)] == [(item["type"], item["live_processors"]) for item in items]
    assert "integer" == items[0]["params_schema"]["properties"]["steps"]["type"]


async def test_processors_show_their_running_jobs(http, keyring, worker_store):
    """As of the last heartbeat, without the jobs of other tenants."""
    job, other = (
        worker_store.heartbeats[0].running[0].model_copy(update={"id": keyring.issue(t)}) for t in ("default", "acme")
    )
    worker_store.heartbeats = [worker_store.heartbeats[0].model_copy(update={"running": (other, job)})]
    (item,) = (await http.get("/v1/processors")).json()["items"]
    assert ("host-1-ab12", 4, [job.id]) == (item["instance"], item["threads"], [one["id"] for one in item["running"]])


@pytest.mark.parametrize("path, status, slug", [("/nothing", 404, "not-found"), ("/v1/jobs/", 404, "not-found")])
async def test_an_unknown_path_is_a_problem(http, path, status, slug):
    """Errors of the framework are problems too."""
    problem(await http.get(path), status, slug)


async def test_an_unsupported_method_is_a_problem(http):
    """405, with Allow."""
    response = await http.request("PATCH", "/v1/jobs")
    problem(response, 405, "method-not-allowed")
    assert "allow" in response.headers


async def test_liveness_does_not_depend_on_redis_or_rabbitmq(http, view, broker):
    """Readiness does, and names what is missing."""
    assert 200 == (await http.get("/livez")).status_code
    assert (200, "ready\n") == ((await http.get("/readyz")).status_code, (await http.get("/readyz")).text)
    assert 1 == (await http.get("/readyz?verbose")).json()["live_processors"]
    view.away = True
    broker.error = lambda command: RuntimeError
    assert 200 == (await http.get("/livez")).status_code
    response = await http.get("/readyz")
    assert (503, "not ready: rabbitmq, redis\n") == (response.status_code, response.text)
    verbose = (await http.get("/readyz?verbose")).json()
    assert {"ready": False, "checks": {"rabbitmq": False, "redis": False}, "live_processors": None} == verbose


async def test_an_unknown_parameter_of_the_listing_is_malformed(http):
    """If it were ignored, the listing would contain jobs that the client did not ask for."""
    problem(await http.get("/v1/jobs?worker=me"), 400, "malformed-request")


@pytest.mark.parametrize(
    "path, methods",
    [("/v1/jobs", "GET, POST"), ("/v1/jobs/some-id", "DELETE, GET"), ("/v1/jobs/some-id/cancel", "POST")],
)
async def test_allow_names_all_methods_of_a_path(http, path, methods):
    """RFC 9110 §15.5.6."""
    answer = await http.put(path)
    problem(answer, 405, "method-not-allowed")
    assert methods == answer.headers["allow"]
