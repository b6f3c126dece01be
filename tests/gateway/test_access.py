"""Who may do what, and how much."""

import asyncio
from collections import Counter
from datetime import timedelta
from itertools import product

import httpx
import pytest
from problem_answers import problem
from samples import ENDED, SUBMITTED

from milepost_contracts.access import Access, Limits, Scope, create_key
from milepost_contracts.dead_letters import Unreadable
from milepost_contracts.envelope import now
from milepost_contracts.events import JobFailed, JobSubmitted, JobSucceeded
from milepost_contracts.values import JobError
from milepost_gateway import bootstrap
from milepost_gateway.access import STREAM_TOKEN_LASTS

COUNT = {"type": "count"}
UNREADABLE = Unreadable(id="1", queue="q", reason="no JSON", at=now(), size=1, excerpt="?").model_dump_json().encode()
ISSUER = {"issuer": "https://i", "audience": "milepost", "jwks_url": "https://i/keys", "tenant_claim": "org"}


@pytest.fixture
def key(rules):
    """Make a key that the gateway knows; return the headers that a client sends with it."""

    def made(tenant, *scopes, **more):
        text, entry = create_key(tenant, frozenset(scopes), **more)
        rules.access = (rules.access or Access()).with_key(entry)
        return {"Authorization": f"Bearer {text}"}

    rules.access = Access()  # before the app is built: it is not open
    return made


@pytest.fixture
def acme(key):
    return key("acme", Scope.ADMIN)


@pytest.fixture
def other(key):
    return key("other", Scope.ADMIN)


@pytest.fixture
def job_id(acme, keyring, store):
    """A job of acme that has failed, and was given up."""
    job = ENDED.model_copy(update={"id": keyring.issue("acme"), "tenant": "acme"})
    store.project(JobSucceeded(job=job))
    return job.id


def public(app):
    """Every route of the interface, with its methods."""
    for path, operations in app.openapi()["paths"].items():
        if path.startswith("/v1"):
            yield from ((method.upper(), path) for method in operations)


async def test_nothing_is_answered_without_a_key(key, app, http, keyring):
    """Not one route of the interface."""
    routes = list(public(app))
    assert len(routes) >= 15
    for method, path in routes:
        answer = await http.request(method, path.replace("{job_id}", keyring.issue("default")), json=COUNT)
        problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert 200 == (await http.get("/livez")).status_code


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer mp_000000000000_" + "x" * 43},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic bXA6bXA="},
        {"X-API-Key": "nothing"},
        {"Authorization": "Bearer a.b.c"},
    ],
)
async def test_a_key_that_nobody_made_is_refused(key, http, headers):
    """Whatever it looks like."""
    problem(await http.get("/v1/jobs", headers=headers), 401, "unauthenticated")


async def test_a_key_in_the_url_does_not_count(acme, http, job_id):
    """URLs are logged on their way."""
    text = acme["Authorization"].removeprefix("Bearer ")
    for path, name in product(("/v1/jobs", f"/v1/jobs/{job_id}/events"), ("token", "api_key", "access_token")):
        assert 401 == (await http.get(path, params={name: text})).status_code


async def test_a_key_may_stand_in_a_header_of_its_own(acme, http):
    """Some gateways in between want `Authorization` for themselves."""
    text = acme["Authorization"].removeprefix("Bearer ")
    assert 200 == (await http.get("/v1/jobs", headers={"X-API-Key": text})).status_code


async def test_an_expired_and_a_revoked_key_are_refused(key, rules, http):
    """At once."""
    expired = key("acme", Scope.READ, expires_at=now() - timedelta(seconds=1))
    problem(await http.get("/v1/jobs", headers=expired), 401, "unauthenticated")
    good = key("acme", Scope.READ)
    assert 200 == (await http.get("/v1/jobs", headers=good)).status_code
    rules.access = rules.access.without_key(rules.access.keys[-1].id)
    problem(await http.get("/v1/jobs", headers=good), 401, "unauthenticated")


@pytest.mark.parametrize(
    "scope, method, path, allowed",
    [
        (Scope.READ, "GET", "/v1/jobs", True),
        (Scope.READ, "GET", "/v1/jobs/counts", True),
        (Scope.READ, "GET", "/v1/job-types", True),
        (Scope.READ, "POST", "/v1/jobs", False),
        (Scope.READ, "POST", "/v1/jobs/{id}/cancel", False),
        (Scope.READ, "POST", "/v1/jobs/{id}/retry", False),
        (Scope.READ, "GET", "/v1/dead-letters", False),
        (Scope.SUBMIT, "POST", "/v1/jobs", True),
        (Scope.SUBMIT, "GET", "/v1/jobs", False),
        (Scope.SUBMIT, "POST", "/v1/dead-letters:redrive", False),
        (Scope.ADMIN, "GET", "/v1/dead-letters", True),
        (Scope.ADMIN, "GET", "/v1/jobs", True),
        (Scope.ADMIN, "POST", "/v1/jobs", True),
    ],
)
async def test_a_key_may_do_what_its_scopes_say(key, http, job_id, scope, method, path, allowed):
    """And an admin everything."""
    answer = await http.request(method, path.format(id=job_id), headers=key("acme", scope), json=COUNT)
    if allowed:
        assert answer.is_success, answer.text
    else:
        assert scope.value not in problem(answer, 403, "forbidden")["detail"]


async def test_another_tenants_job_is_as_unknown_as_one_that_nobody_issued(acme, other, app, http, job_id, keyring):
    """On every verb and every path: the same bytes, but for the request's id."""
    paths = [(method, path) for method, path in public(app) if "{job_id}" in path]
    assert len(paths) >= 7
    for method, path in paths:
        told = []
        for one in (job_id, keyring.issue("acme"), keyring.issue("nobody"), "0" * 40):
            answer = await http.request(method, path.replace("{job_id}", one), headers=other)
            body = problem(answer, 404, "unknown-job")
            told.append({**body, "instance": None})
        assert [told[0]] * 4 == told
    assert 404 == (await http.get("/v1/events", params={"job": job_id}, headers=other)).status_code
    assert 200 == (await http.get(f"/v1/jobs/{job_id}", headers=acme)).status_code


async def test_lists_counts_and_dead_letters_are_the_tenants_own(acme, other, http, store, keyring, job_id):
    """However they are asked for."""
    error = JobError(kind="dead_lettered", message="died")
    dead = ENDED.model_copy(update={"id": keyring.issue("acme"), "tenant": "acme", "error": error, "result": None})
    store.project(JobFailed(job=dead))
    store.poisons = [UNREADABLE]
    for headers, jobs in ((acme, {job_id, dead.id}), (other, set())):
        listed = (await http.get("/v1/jobs", headers=headers)).json()["items"]
        assert jobs == {one["id"] for one in listed}
        counts = (await http.get("/v1/jobs/counts", headers=headers)).json()
        assert len(jobs) == sum(counts.values())
        letters = (await http.get("/v1/dead-letters", headers=headers)).json()
        assert ([dead.id] if jobs else []) == [one["job_id"] for one in letters["items"]]
        assert [] == letters["unreadable"], "they may be anybody's"
        redriven = await http.post("/v1/dead-letters:redrive", json={"dry_run": True}, headers=headers)
        assert (1 if jobs else 0) == redriven.json()["count"]


async def test_messages_that_nobody_could_read_are_for_the_deployments_own_admins(key, http, store):
    """Nobody knows whose they are."""
    store.poisons = [UNREADABLE]
    letters = await http.get("/v1/dead-letters", headers=key("default", Scope.ADMIN))
    assert 1 == len(letters.json()["unreadable"])


async def test_a_job_belongs_to_the_tenant_of_the_key_that_handed_it_over(acme, other, http, broker):
    """It says so in its events, and its id does."""
    answer = await http.post("/v1/jobs", json=COUNT, headers=acme)
    assert ["acme"] == [command.job.tenant for command in broker.submitted]
    where = answer.headers["location"]
    assert [200, 404] == [(await http.get(where, headers=headers)).status_code for headers in (acme, other)]


async def test_an_idempotency_key_is_the_tenants_own(acme, other, http, broker):
    """The same key of another is another job."""
    for headers in (acme, other, acme):
        assert 202 == (await http.post("/v1/jobs", json=COUNT, headers={**headers, "Idempotency-Key": "1"})).status_code
    assert ["acme", "other"] == [command.job.tenant for command in broker.submitted]


# Tokens.


@pytest.mark.parametrize(
    "claims, status",
    [
        ({"org": "acme", "scope": "read milepost:submit openid", "sub": "me"}, 202),
        ({"org": "acme", "scope": "read"}, 403),
        ({"org": "acme"}, 403),
        ({"org": "acme", "scope": ["submit"]}, 401),
        ({"scope": "submit"}, 401),
        ({"org": "A c m e", "scope": "submit"}, 401),
        ({"org": 7, "scope": "submit"}, 401),
    ],
)
async def test_a_token_says_whose_it_is_and_what_it_may(key, rules, tokens, http, claims, status):
    """By the claims that the access file names."""
    rules.access = Access.model_validate({"issuers": [ISSUER]})
    tokens.good["a.b.c"] = claims
    answer = await http.post("/v1/jobs", json=COUNT, headers={"Authorization": "Bearer a.b.c"})
    assert status == answer.status_code


# Limits.


async def test_more_jobs_a_second_than_a_tenant_may_are_refused(acme, other, rules, http, broker):
    """It hears when to come back, and the others notice nothing."""
    rules.access = rules.access.model_copy(update={"limits": {"acme": Limits(jobs_per_second=0.02)}})
    assert 202 == (await http.post("/v1/jobs", json=COUNT, headers=acme)).status_code
    answer = await http.post("/v1/jobs", json=COUNT, headers=acme)
    problem(answer, 429, "too-many-requests")
    assert 40 <= int(answer.headers["retry-after"]) <= 50
    assert 202 == (await http.post("/v1/jobs", json=COUNT, headers=other)).status_code
    assert 2 == len(broker.submitted)


async def test_a_tenant_may_have_so_many_live_jobs(acme, rules, http, store, keyring, monkeypatch):
    """Those that this gateway accepted count at once; those that ended do not."""
    monkeypatch.setattr("milepost_gateway.admission.COUNT_EVERY", 60.0)
    rules.access = rules.access.model_copy(update={"limits": {"acme": Limits(live_jobs=2)}})
    for kind, job in ((JobSubmitted, SUBMITTED), (JobSucceeded, ENDED)):
        store.project(kind(job=job.model_copy(update={"id": keyring.issue("acme"), "tenant": "acme"})))
    assert 202 == (await http.post("/v1/jobs", json=COUNT, headers=acme)).status_code
    answer = await http.post("/v1/jobs", json=COUNT, headers=acme)
    problem(answer, 429, "too-many-jobs")
    assert answer.headers["retry-after"].isdigit()


async def test_a_store_that_is_away_refuses_no_job(acme, rules, http, store, monkeypatch):
    """Law 1: no write to Redis, and no read, is needed to accept."""
    monkeypatch.setattr("milepost_gateway.admission.COUNT_EVERY", 0.0)
    rules.access = rules.access.model_copy(update={"limits": {"acme": Limits(live_jobs=1)}})
    await http.get("/v1/job-types", headers=acme)  # the types are known
    assert 202 == (await http.post("/v1/jobs", json=COUNT, headers=acme)).status_code
    store.away = True
    for _ in range(5):
        assert 202 == (await http.post("/v1/jobs", json=COUNT, headers=acme)).status_code


async def test_so_many_may_wait_at_once(acme, other, rules, app, http, job_id):
    """One more is told to come back; who does not wait is answered."""
    rules.access = rules.access.model_copy(update={"limits": {"acme": Limits(listeners=1)}})
    with app.state.services.admission.listening("acme"):
        for path in (f"/v1/jobs/{job_id}/events", f"/v1/events?job={job_id}"):
            problem(await http.get(path, headers=acme), 429, "too-many-requests")
        waiting = {**acme, "Prefer": "wait=1"}
        problem(await http.get(f"/v1/jobs/{job_id}", headers=waiting), 429, "too-many-requests")
        assert 200 == (await http.get(f"/v1/jobs/{job_id}", headers=acme)).status_code
    assert 200 == (await http.get(f"/v1/jobs/{job_id}/events", headers=acme)).status_code
    assert 200 == (await http.get(f"/v1/jobs/{job_id}/events", headers=acme)).status_code, "and it was given back"


async def test_who_may_not_wait_is_told_before_anything_is_accepted(rules, app, http, broker, blobs):
    """A 429 that comes after the fact would make a second job."""
    rules.access = Access(limits={"default": Limits(listeners=1)})
    with app.state.services.admission.listening("default"):
        for headers in ({"Prefer": "wait=5"}, {"Accept": "text/event-stream"}):
            problem(await http.post("/v1/jobs", json=COUNT, headers=headers), 429, "too-many-requests")
        assert [] == broker.submitted
        assert 202 == (await http.post("/v1/jobs", json=COUNT)).status_code


async def test_many_at_once_are_held_to_the_limit_too(acme, rules, http, broker, monkeypatch):
    """They count together."""
    monkeypatch.setattr("milepost_gateway.admission.COUNT_EVERY", 60.0)
    rules.access = rules.access.model_copy(update={"limits": {"acme": Limits(live_jobs=5)}})
    answers = await asyncio.gather(*(http.post("/v1/jobs", json=COUNT, headers=acme) for _ in range(40)))
    assert {202: 5, 429: 35} == Counter(answer.status_code for answer in answers)


# Browsers.


async def test_a_stream_token_opens_the_streams_of_its_job(acme, http, job_id):
    """An EventSource can set no headers."""
    answer = await http.post(f"/v1/jobs/{job_id}/stream-token", headers=acme)
    assert 201 == answer.status_code
    token = answer.json()["token"]
    for _ in range(2):
        opened = await http.get(f"/v1/jobs/{job_id}/events", params={"token": token})
        assert (200, "text/event-stream; charset=utf-8") == (opened.status_code, opened.headers["content-type"])


async def test_a_stream_token_opens_nothing_else(acme, http, job_id, keyring):
    """No other job, no other path, no other tenant."""
    token = (await http.post(f"/v1/jobs/{job_id}/stream-token", headers=acme)).json()["token"]
    second = keyring.issue("acme")
    for path in (
        f"/v1/jobs/{second}/events",
        f"/v1/events?job={job_id}&job={second}",
        f"/v1/jobs/{job_id}",
        f"/v1/jobs/{job_id}/result",
        "/v1/jobs",
    ):
        answer = await http.get(f"{path}{'&' if '?' in path else '?'}token={token}")
        problem(answer, 401, "unauthenticated")
    until, tenant, seal = token.split(".")
    for forged in (
        f"{until}.other.{seal}",
        f"{int(until) + 9}.{tenant}.{seal}",
        f"{until}.{tenant}.1-",
        "",
        ".",
        "ä.b.c",
    ):
        answer = await http.get(f"/v1/jobs/{job_id}/events", params={"token": forged})
        problem(answer, 401, "unauthenticated")
    bearer = {"Authorization": f"Bearer {token}"}
    problem(await http.get("/v1/jobs", headers=bearer), 401, "unauthenticated")


async def test_a_stream_token_of_several_jobs_opens_their_stream(acme, http, job_id, keyring, store):
    """In any order; and not one of them alone."""
    second = keyring.issue("acme")
    store.project(JobSucceeded(job=ENDED.model_copy(update={"id": second, "tenant": "acme"})))
    jobs = {"job": [job_id, second]}
    token = (await http.post("/v1/events/stream-token", params=jobs, headers=acme)).json()["token"]
    assert 401 == (await http.get("/v1/events", params={"job": job_id, "token": token})).status_code
    reader = httpx.QueryParams({"job": [second, job_id], "token": token})
    assert 200 == (await http.get("/v1/events", params=reader)).status_code


async def test_a_stream_token_ends_with_its_time(acme, app, http, job_id, monkeypatch):
    """Whoever finds it in a log finds it too late."""
    monkeypatch.setattr("milepost_gateway.access.STREAM_TOKEN_LASTS", -STREAM_TOKEN_LASTS)
    token = (await http.post(f"/v1/jobs/{job_id}/stream-token", headers=acme)).json()["token"]
    problem(await http.get(f"/v1/jobs/{job_id}/events", params={"token": token}), 401, "unauthenticated")


async def test_pages_of_other_origins_may_ask_where_that_is_set(app, monkeypatch):
    """And read what a client needs to go on."""
    asked = {"Origin": "https://app.example.com"}
    page = {**asked, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, prefer"}
    for origins, allowed in (
        ((), None),
        (("https://app.example.com",), "https://app.example.com"),
        (("https://x",), None),
    ):
        made = bootstrap.build_app(origins=origins)
        made.state.services = app.state.services
        transport = httpx.ASGITransport(made)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
            preflight = await client.options("/v1/jobs", headers=page)
            assert allowed == preflight.headers.get("access-control-allow-origin")
            answer = await client.get("/v1/jobs", headers=asked)
            exposed = answer.headers.get("access-control-expose-headers", "")
            assert allowed == answer.headers.get("access-control-allow-origin")
            assert allowed is None or {"Retry-After", "Operation-Location"} < set(exposed.split(", "))
