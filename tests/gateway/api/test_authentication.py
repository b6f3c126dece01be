"""Authentication, scopes, tenant isolation, quotas, stream tokens and CORS."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import product

import httpx
import pytest
from problem_answers import problem
from samples import ENDED, SUBMITTED

from milepost_contracts.clock import now
from milepost_contracts.http.access import Access, Limits, Scope, create_key
from milepost_contracts.http.dead_letters import Unreadable
from milepost_contracts.messages.job_events import JobFailed, JobSubmitted, JobSucceeded
from milepost_contracts.values import JobError
from milepost_gateway import bootstrap
from milepost_gateway.core.authentication import STREAM_TOKEN_TTL

COUNT = {"type": "count"}
UNREADABLE = Unreadable(id="1", queue="q", reason="no JSON", at=now(), size=1, excerpt="?").model_dump_json().encode()
ISSUER = {"issuer": "https://i", "audience": "milepost", "jwks_url": "https://i/keys", "tenant_claim": "org",
          "tenants": ["acme", "other"], "scopes": ["read", "submit"]}  # fmt: skip


@pytest.fixture
def key(rules):
    """Return a function that adds an API key to the access rules and returns the request headers with it."""

    def create(tenant, *scopes, **more):
        text, entry = create_key(tenant, frozenset(scopes), **more)
        rules.access = (rules.access or Access()).with_key(entry)
        return {"Authorization": f"Bearer {text}"}

    rules.access = Access()  # set before the app is built, so that it requires keys
    return create


@pytest.fixture
def acme(key):
    return key("acme", Scope.ADMIN)


@pytest.fixture
def other(key):
    return key("other", Scope.ADMIN)


@pytest.fixture
def job_id(acme, keyring, view):
    """A job of acme that has succeeded."""
    job = ENDED.model_copy(update={"id": keyring.issue("acme"), "tenant": "acme"})
    view.project(JobSucceeded(job=job))
    return job.id


def v1_routes(app):
    """Yield the method and the path of every /v1 route."""
    for path, operations in app.openapi()["paths"].items():
        if path.startswith("/v1"):
            yield from ((method.upper(), path) for method in operations)


async def test_every_route_requires_a_key(key, app, http, keyring):
    """401 on every /v1 route; /livez needs no key."""
    routes = list(v1_routes(app))
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
async def test_an_unknown_or_malformed_key_is_refused(key, http, headers):
    """401, whatever its form."""
    problem(await http.get("/v1/jobs", headers=headers), 401, "unauthenticated")


async def test_a_key_in_the_url_is_refused(acme, http, job_id):
    """URLs are written to access logs."""
    text = acme["Authorization"].removeprefix("Bearer ")
    for path, name in product(("/v1/jobs", f"/v1/jobs/{job_id}/events"), ("token", "api_key", "access_token")):
        assert 401 == (await http.get(path, params={name: text})).status_code


async def test_a_key_is_accepted_in_the_x_api_key_header(acme, http):
    """Some proxies use `Authorization` themselves."""
    text = acme["Authorization"].removeprefix("Bearer ")
    assert 200 == (await http.get("/v1/jobs", headers={"X-API-Key": text})).status_code


async def test_an_expired_and_a_revoked_key_are_refused(key, rules, http):
    """A revoked key is refused from the next request on."""
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
async def test_a_key_may_do_what_its_scopes_allow(key, http, job_id, scope, method, path, allowed):
    """The scope `admin` allows everything; a missing scope gets 403."""
    answer = await http.request(method, path.format(id=job_id), headers=key("acme", scope), json=COUNT)
    if allowed:
        assert answer.is_success, answer.text
    else:
        assert scope.value not in problem(answer, 403, "forbidden")["detail"]


async def test_another_tenants_job_gets_the_same_404_as_an_id_never_issued(acme, other, app, http, job_id, keyring):
    """On every method and path; the bodies differ only in the request id."""
    paths = [(method, path) for method, path in v1_routes(app) if "{job_id}" in path]
    assert len(paths) >= 7
    for method, path in paths:
        bodies = []
        for unknown_id in (job_id, keyring.issue("acme"), keyring.issue("nobody"), "0" * 40):
            answer = await http.request(method, path.replace("{job_id}", unknown_id), headers=other)
            body = problem(answer, 404, "unknown-job")
            bodies.append({**body, "instance": None})
        assert [bodies[0]] * 4 == bodies
    assert 404 == (await http.get("/v1/events", params={"job": job_id}, headers=other)).status_code
    assert 200 == (await http.get(f"/v1/jobs/{job_id}", headers=acme)).status_code


async def test_lists_counts_and_dead_letters_show_only_the_tenants_own_jobs(
    acme, other, http, view, keyring, job_id, poison_store
):
    """So does a bulk redrive; unreadable messages are not shown."""
    error = JobError(kind="dead_lettered", message="died")
    dead = ENDED.model_copy(update={"id": keyring.issue("acme"), "tenant": "acme", "error": error, "result": None})
    view.project(JobFailed(job=dead))
    poison_store.records = [UNREADABLE]
    for headers, job_ids in ((acme, {job_id, dead.id}), (other, set())):
        listed = (await http.get("/v1/jobs", headers=headers)).json()["items"]
        assert job_ids == {item["id"] for item in listed}
        counts = (await http.get("/v1/jobs/counts", headers=headers)).json()
        assert len(job_ids) == sum(counts.values())
        letters = (await http.get("/v1/dead-letters", headers=headers)).json()
        assert ([dead.id] if job_ids else []) == [item["job_id"] for item in letters["items"]]
        assert [] == letters["unreadable"], "their tenant is unknown"
        redriven = await http.post("/v1/dead-letters:redrive", json={"dry_run": True}, headers=headers)
        assert (1 if job_ids else 0) == redriven.json()["count"]


async def test_unreadable_messages_are_shown_to_admins_of_the_default_tenant(key, http, poison_store):
    """The tenant of such a message is not known."""
    poison_store.records = [UNREADABLE]
    letters = await http.get("/v1/dead-letters", headers=key("default", Scope.ADMIN))
    assert 1 == len(letters.json()["unreadable"])


async def test_a_job_belongs_to_the_tenant_of_the_key_that_submitted_it(acme, other, http, broker):
    """The job names its tenant, and its id is unknown to other tenants."""
    answer = await http.post("/v1/jobs", json=COUNT, headers=acme)
    assert ["acme"] == [command.job.tenant for command in broker.submitted]
    location = answer.headers["location"]
    assert [200, 404] == [(await http.get(location, headers=headers)).status_code for headers in (acme, other)]


async def test_idempotency_keys_are_separate_per_tenant(acme, other, http, broker):
    """Two tenants that use the same key get two jobs."""
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
async def test_tenant_and_scopes_come_from_the_claims_of_a_token(key, rules, tokens, http, claims, status):
    """The access file names the tenant claim; invalid claims get 401, a missing scope 403."""
    rules.access = Access.model_validate({"issuers": [ISSUER]})
    tokens.good["a.b.c"] = claims
    answer = await http.post("/v1/jobs", json=COUNT, headers={"Authorization": "Bearer a.b.c"})
    assert status == answer.status_code


@pytest.mark.parametrize(
    "tenants, tenant, status",
    [(["acme"], "acme", 202), (["acme"], "other", 401), (["*"], "other", 202), (["*"], "default", 401),
     (["*", "default"], "default", 202)],
)  # fmt: skip
async def test_an_issuer_may_only_name_its_tenants(key, rules, tokens, http, tenants, tenant, status):
    """`default` must be named: its admins see what belongs to no tenant."""
    rules.access = Access.model_validate({"issuers": [{**ISSUER, "tenants": tenants}]})
    tokens.good["a.b.c"] = {"org": tenant, "scope": "submit"}
    answer = await http.post("/v1/jobs", json=COUNT, headers={"Authorization": "Bearer a.b.c"})
    assert status == answer.status_code


async def test_an_issuer_may_only_grant_its_scopes(key, rules, tokens, http):
    """A token of another system that may name `default` is no admin for that."""
    tokens.good["a.b.c"] = {"org": "default", "scope": "read submit admin"}
    for scopes, status in ((["read"], 403), (["read", "admin"], 200)):
        rules.access = Access.model_validate({"issuers": [{**ISSUER, "tenants": ["default"], "scopes": scopes}]})
        answer = await http.get("/metrics", headers={"Authorization": "Bearer a.b.c"})
        assert status == answer.status_code


METRICS_TOKEN = {"Authorization": "Bearer a-token-of-a-scraper"}


@pytest.fixture
def metrics_token(app):
    deps = app.state.dependencies
    authentication = replace(deps.authentication, metrics_token="a-token-of-a-scraper")
    app.state.dependencies = replace(deps, authentication=authentication)
    return METRICS_TOKEN


async def test_an_open_gateway_with_a_metrics_token_asks_for_it(http, metrics_token):
    """Else it would not be a secret."""
    problem(await http.get("/metrics"), 401, "unauthenticated")
    assert 200 == (await http.get("/metrics", headers=metrics_token)).status_code


async def test_the_metrics_token_opens_the_metrics_alone(key, http, metrics_token):
    """A scraper needs no admin's key, which may delete jobs."""
    assert 200 == (await http.get("/metrics", headers=metrics_token)).status_code
    problem(await http.get("/v1/jobs", headers=metrics_token), 401, "unauthenticated")
    problem(await http.get("/metrics", headers={"Authorization": "Bearer another"}), 401, "unauthenticated")
    problem(await http.get("/metrics"), 401, "unauthenticated")
    assert 200 == (await http.get("/livez")).status_code


# Limits.


async def test_a_retry_counts_as_a_submission(acme, rules, http, view, broker, keyring):
    """Else a tenant submits its old jobs again as fast as it can."""
    rules.access = rules.access.model_copy(update={"limits": {"acme": Limits(jobs_per_second=0.02)}})
    job = ENDED.model_copy(update={"id": keyring.issue("acme"), "tenant": "acme"})
    view.project(JobSucceeded(job=job))
    assert 202 == (await http.post(f"/v1/jobs/{job.id}/retry", headers=acme)).status_code
    problem(await http.post(f"/v1/jobs/{job.id}/retry", headers=acme), 429, "too-many-requests")
    assert 1 == len(broker.submitted)


async def test_jobs_are_counted_only_when_the_limit_may_be_reached(acme, rules, http, app):
    """A count asks each of 256 shards of Redis: 2,049 commands a second for each tenant with a limit, before."""
    rules.access = rules.access.model_copy(update={"limits": {"acme": Limits(live_jobs=1_000)}})
    deps = app.state.dependencies
    for _ in range(60):  # a job a second
        assert 202 == (await http.post("/v1/jobs", json=COUNT, headers=acme)).status_code
        deps.quotas._counts["acme"].at -= 1
    assert 4 == deps.job_index.counted


async def test_a_tenant_over_its_submission_rate_gets_429(acme, other, rules, http, broker):
    """With Retry-After; other tenants are not affected."""
    rules.access = rules.access.model_copy(update={"limits": {"acme": Limits(jobs_per_second=0.02)}})
    assert 202 == (await http.post("/v1/jobs", json=COUNT, headers=acme)).status_code
    answer = await http.post("/v1/jobs", json=COUNT, headers=acme)
    problem(answer, 429, "too-many-requests")
    assert 40 <= int(answer.headers["retry-after"]) <= 50
    assert 202 == (await http.post("/v1/jobs", json=COUNT, headers=other)).status_code
    assert 2 == len(broker.submitted)


async def test_the_number_of_live_jobs_per_tenant_is_limited(acme, rules, http, view, keyring, monkeypatch):
    """Jobs that this gateway accepted count at once; ended jobs do not count."""
    monkeypatch.setattr("milepost_gateway.core.quotas.COUNT_INTERVAL", 60.0)
    rules.access = rules.access.model_copy(update={"limits": {"acme": Limits(live_jobs=2)}})
    for kind, job in ((JobSubmitted, SUBMITTED), (JobSucceeded, ENDED)):
        view.project(kind(job=job.model_copy(update={"id": keyring.issue("acme"), "tenant": "acme"})))
    assert 202 == (await http.post("/v1/jobs", json=COUNT, headers=acme)).status_code
    answer = await http.post("/v1/jobs", json=COUNT, headers=acme)
    problem(answer, 429, "too-many-jobs")
    assert answer.headers["retry-after"].isdigit()


async def test_jobs_are_accepted_while_redis_is_away(acme, rules, http, view, monkeypatch):
    """Law 1: accepting a job needs no read from Redis and no write to it."""
    monkeypatch.setattr("milepost_gateway.core.quotas.COUNT_INTERVAL", 0.0)
    rules.access = rules.access.model_copy(update={"limits": {"acme": Limits(live_jobs=1)}})
    await http.get("/v1/job-types", headers=acme)  # the types are known
    assert 202 == (await http.post("/v1/jobs", json=COUNT, headers=acme)).status_code
    view.away = True
    for _ in range(5):
        assert 202 == (await http.post("/v1/jobs", json=COUNT, headers=acme)).status_code


async def test_the_number_of_open_streams_and_waits_per_tenant_is_limited(acme, other, rules, app, http, job_id):
    """One more gets 429; a request that does not wait is answered."""
    rules.access = rules.access.model_copy(update={"limits": {"acme": Limits(listeners=1)}})
    with app.state.dependencies.quotas.listening("acme"):
        for path in (f"/v1/jobs/{job_id}/events", f"/v1/events?job={job_id}"):
            problem(await http.get(path, headers=acme), 429, "too-many-requests")
        waiting = {**acme, "Prefer": "wait=1"}
        problem(await http.get(f"/v1/jobs/{job_id}", headers=waiting), 429, "too-many-requests")
        assert 200 == (await http.get(f"/v1/jobs/{job_id}", headers=acme)).status_code
    assert 200 == (await http.get(f"/v1/jobs/{job_id}/events", headers=acme)).status_code
    assert 200 == (await http.get(f"/v1/jobs/{job_id}/events", headers=acme)).status_code, (
        "the first one freed its place"
    )


async def test_a_wait_over_the_limit_is_refused_before_the_job_is_accepted(rules, app, http, broker, blob_store):
    """A 429 after the job was accepted would make the client submit it twice."""
    rules.access = Access(limits={"default": Limits(listeners=1)})
    with app.state.dependencies.quotas.listening("default"):
        for headers in ({"Prefer": "wait=5"}, {"Accept": "text/event-stream"}):
            problem(await http.post("/v1/jobs", json=COUNT, headers=headers), 429, "too-many-requests")
        assert [] == broker.submitted
        assert 202 == (await http.post("/v1/jobs", json=COUNT)).status_code


async def test_concurrent_submissions_do_not_exceed_the_live_job_limit(acme, rules, http, broker, monkeypatch):
    """Exactly as many are accepted as the limit allows."""
    monkeypatch.setattr("milepost_gateway.core.quotas.COUNT_INTERVAL", 60.0)
    rules.access = rules.access.model_copy(update={"limits": {"acme": Limits(live_jobs=5)}})
    answers = await asyncio.gather(*(http.post("/v1/jobs", json=COUNT, headers=acme) for _ in range(40)))
    assert {202: 5, 429: 35} == Counter(answer.status_code for answer in answers)


# Browsers.


async def test_a_stream_token_opens_the_stream_of_its_job(acme, http, job_id):
    """More than once; an EventSource can't set headers."""
    answer = await http.post(f"/v1/jobs/{job_id}/stream-token", headers=acme)
    assert 201 == answer.status_code
    token = answer.json()["token"]
    for _ in range(2):
        opened = await http.get(f"/v1/jobs/{job_id}/events", params={"token": token})
        assert (200, "text/event-stream; charset=utf-8") == (opened.status_code, opened.headers["content-type"])


async def test_a_stream_token_opens_nothing_else(acme, http, job_id, keyring):
    """No other job, path or tenant; a forged token is refused, and so is a token sent as a bearer token."""
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
    expiry, tenant, signature = token.split(".")
    for forged in (
        f"{expiry}.other.{signature}",
        f"{int(expiry) + 9}.{tenant}.{signature}",
        f"{expiry}.{tenant}.1-",
        "",
        ".",
        "ä.b.c",
    ):
        answer = await http.get(f"/v1/jobs/{job_id}/events", params={"token": forged})
        problem(answer, 401, "unauthenticated")
    bearer = {"Authorization": f"Bearer {token}"}
    problem(await http.get("/v1/jobs", headers=bearer), 401, "unauthenticated")


async def test_a_stream_token_of_several_jobs_opens_their_stream(acme, http, job_id, keyring, view):
    """The jobs may be in any order; the token does not open the stream of one of them alone."""
    second = keyring.issue("acme")
    view.project(JobSucceeded(job=ENDED.model_copy(update={"id": second, "tenant": "acme"})))
    params = {"job": [job_id, second]}
    token = (await http.post("/v1/events/stream-token", params=params, headers=acme)).json()["token"]
    assert 401 == (await http.get("/v1/events", params={"job": job_id, "token": token})).status_code
    query = httpx.QueryParams({"job": [second, job_id], "token": token})
    assert 200 == (await http.get("/v1/events", params=query)).status_code


async def test_a_stream_token_expires(acme, app, http, job_id, monkeypatch):
    """A token that is found in a log later is not accepted."""
    monkeypatch.setattr("milepost_gateway.core.authentication.STREAM_TOKEN_TTL", -STREAM_TOKEN_TTL)
    token = (await http.post(f"/v1/jobs/{job_id}/stream-token", headers=acme)).json()["token"]
    problem(await http.get(f"/v1/jobs/{job_id}/events", params={"token": token}), 401, "unauthenticated")


async def test_cors_is_allowed_for_the_configured_origins(app, monkeypatch):
    """The response exposes the headers that a client reads."""
    origin_header = {"Origin": "https://app.example.com"}
    preflight_headers = {
        **origin_header,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, prefer",
    }
    for origins, allowed in (
        ((), None),
        (("https://app.example.com",), "https://app.example.com"),
        (("https://x",), None),
    ):
        cors_app = bootstrap.build_app(origins=origins)
        cors_app.state.dependencies = app.state.dependencies
        transport = httpx.ASGITransport(cors_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
            preflight = await client.options("/v1/jobs", headers=preflight_headers)
            assert allowed == preflight.headers.get("access-control-allow-origin")
            answer = await client.get("/v1/jobs", headers=origin_header)
            exposed = answer.headers.get("access-control-expose-headers", "")
            assert allowed == answer.headers.get("access-control-allow-origin")
            assert allowed is None or {"Retry-After", "Operation-Location"} < set(exposed.split(", "))
