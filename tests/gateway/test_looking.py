"""`GET /v1/jobs/{id}` and the lists: an id never lies."""

from datetime import UTC, datetime, timedelta

import pytest
from problem_answers import problem

from milepost_contracts.ids import Keyring, SigningKey
from milepost_gateway.ports import Stored

JOB = {"type": "count", "params": {}}


async def test_a_job_is_there_from_the_moment_of_its_202(http):
    """No tracker has seen it, and still it is no 404: the id proves that it was issued."""
    job_id = (await http.post("/v1/jobs", json=JOB)).json()["id"]
    response = await http.get(f"/v1/jobs/{job_id}")
    assert (200, "queued", 0) == (response.status_code, response.json()["status"], response.json()["version"])
    assert ('W/"0"', "1", "private, no-cache") == tuple(
        response.headers[name] for name in ("etag", "retry-after", "cache-control")
    )


async def test_who_has_the_newest_version_gets_no_body(http, store, broker):
    """304 for If-None-Match, whether strong, weak, one of many, or any."""
    await http.post("/v1/jobs", json=JOB)
    store.project(broker.submitted[0], version=7)
    path = f"/v1/jobs/{broker.submitted[0].job.id}"
    for condition in ('"7"', 'W/"7"', '"6", "7"', "*"):
        response = await http.get(path, headers={"If-None-Match": condition})
        assert (304, b"", '"7"') == (response.status_code, response.content, response.headers["etag"])
    for condition in ('"6"', "7", "garbage"):
        assert 200 == (await http.get(path, headers={"If-None-Match": condition})).status_code


async def test_an_ended_job_asks_nobody_to_come_back(http, store, broker):
    """Retry-After stands on live jobs only."""
    await http.post("/v1/jobs", json=JOB)
    job_id = broker.submitted[0].job.id
    store.documents[job_id] = Stored(3, b"{}", terminal=True)
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
    """Invented, another tenant's, another deployment's: all the same 404."""
    body = problem(await http.get(f"/v1/jobs/{job_id}"), 404, None)
    assert job_id not in body["detail"]


async def test_every_unknown_id_gets_the_same_bytes(http, keyring):
    """Nobody learns from the answer whether another tenant has such a job."""
    answers = [
        (await http.get(f"/v1/jobs/{job_id}")).json() for job_id in ("0" * 40, keyring.issue("another tenant"), "x")
    ]
    for answer in answers:
        del answer["instance"]
    assert answers[0] == answers[1] == answers[2]


async def test_an_issued_id_past_its_retention_is_gone(http, keyring):
    """410, not 404: it was here once."""
    old = keyring.issue("default", at=datetime.now(UTC) - timedelta(days=8))
    problem(await http.get(f"/v1/jobs/{old}"), 410, "job-expired")


async def test_with_redis_away_a_status_is_unavailable_and_never_404(http, store, keyring):
    """For an issued id; an invented one is still a 404, for that needs no look-up."""
    store.away = True
    response = await http.get(f"/v1/jobs/{keyring.issue('default')}")
    problem(response, 503, "status-unavailable")
    assert "retry-after" in response.headers
    problem(await http.get("/v1/jobs/unknown"), 404, "unknown-job")
    for path in ("/v1/jobs", "/v1/job-types", "/v1/processors"):
        problem(await http.get(path), 503, "status-unavailable")


async def test_a_listing_is_walked_page_by_page(http, store, broker):
    """Newest first; `next` and Link lead on, and end."""
    for _ in range(5):
        await http.post("/v1/jobs", json=JOB)
        store.project(broker.submitted[-1])
    seen, url = [], "/v1/jobs?limit=2"
    while url:
        response = await http.get(url)
        page = response.json()
        seen += [item["id"] for item in page["items"]]
        url = page["next"]
        assert (url is None) == ("link" not in response.headers)
        assert url is None or f'<{url}>; rel="next"' == response.headers["link"]
    assert sorted((command.job.id for command in broker.submitted), reverse=True) == seen


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "status=done", "type=UPPER", "cursor=garbage", "cursor=%00", "cursor=YQ"],
)
async def test_a_query_that_does_not_fit_is_malformed(http, query):
    """400 with the parameter named."""
    body = problem(await http.get(f"/v1/jobs?{query}"), 400, "malformed-request")
    assert query.partition("=")[0] in body["detail"]


async def test_types_say_how_many_live_processors_serve_them(http):
    """A type without one is the commonest cause of a job that stays queued."""
    items = (await http.get("/v1/job-types")).json()["items"]
    assert [("count", 1), ("crunch", 0)] == [(item["type"], item["live_processors"]) for item in items]
    assert "integer" == items[0]["params_schema"]["properties"]["steps"]["type"]


async def test_processors_say_what_they_run(http, store, keyring):
    """As they last said; nothing of a job whose id was never issued to who asks."""
    job, other = (store.beats[0].running[0].model_copy(update={"id": keyring.issue(t)}) for t in ("default", "acme"))
    store.beats = [store.beats[0].model_copy(update={"running": (other, job)})]
    (item,) = (await http.get("/v1/processors")).json()["items"]
    assert ("host-1-ab12", 4, [job.id]) == (item["instance"], item["threads"], [one["id"] for one in item["running"]])


@pytest.mark.parametrize("path, status, slug", [("/nothing", 404, "not-found"), ("/v1/jobs/", 404, "not-found")])
async def test_a_path_with_nothing_there_is_a_problem_too(http, path, status, slug):
    """The framework's own errors speak the same language."""
    problem(await http.get(path), status, slug)


async def test_a_method_that_is_not_there_is_a_problem_too(http):
    """405, with Allow."""
    response = await http.request("PATCH", "/v1/jobs")
    problem(response, 405, "method-not-allowed")
    assert "allow" in response.headers


async def test_a_live_gateway_says_so_whatever_is_away(http, store, broker):
    """And readiness names what is missing."""
    assert 200 == (await http.get("/livez")).status_code
    assert (200, "ready\n") == ((await http.get("/readyz")).status_code, (await http.get("/readyz")).text)
    assert 1 == (await http.get("/readyz?verbose")).json()["live_processors"]
    store.away = True
    broker.error = lambda command: RuntimeError
    assert 200 == (await http.get("/livez")).status_code
    response = await http.get("/readyz")
    assert (503, "not ready: rabbitmq, redis\n") == (response.status_code, response.text)
    verbose = (await http.get("/readyz?verbose")).json()
    assert {"ready": False, "checks": {"rabbitmq": False, "redis": False}, "live_processors": None} == verbose


async def test_a_parameter_that_the_listing_does_not_know_is_malformed(http):
    """A filter that is silently ignored would list what was not asked for."""
    problem(await http.get("/v1/jobs?worker=me"), 400, "malformed-request")


@pytest.mark.parametrize(
    "path, methods",
    [("/v1/jobs", "GET, POST"), ("/v1/jobs/some-id", "DELETE, GET"), ("/v1/jobs/some-id/cancel", "POST")],
)
async def test_what_can_be_done_at_a_path_is_told(http, path, methods):
    """All of it: RFC 9110 §15.5.6."""
    answer = await http.put(path)
    problem(answer, 405, "method-not-allowed")
    assert methods == answer.headers["allow"]
