"""Webhooks: checks of callback URLs, the delivery log, redelivery and secrets."""

import socket

import pytest
from problem_answers import problem
from samples import AT, ENDED, RUNNING

from milepost_contracts.http.access import Access, Scope, create_key
from milepost_contracts.http.webhooks import WebhookTry
from milepost_contracts.messages.job_events import JobStarted, JobSucceeded
from milepost_gateway.core.callback_urls import CallbackUrls
from milepost_gateway.errors import NotAccepted, OutcomeUnknown

URL = "https://hooks.example.com/milepost?token=1"
JOB = {"type": "count", "params": {"steps": 1}, "callback_url": URL}


@pytest.fixture
def job_id(keyring, view):
    """A job with a callback URL that has ended."""
    job = ENDED.model_copy(update={"id": keyring.issue("default"), "callback_url": URL, "files": ()})
    view.project(JobStarted(job=job.model_copy(update={"finished_at": None})))
    view.project(JobSucceeded(job=job), version=2)
    return job.id


async def test_the_callback_url_is_part_of_the_job(http, broker):
    """Every event of the job has it, so that a tracker can send the webhook."""
    answer = await http.post("/v1/jobs", json=JOB)
    assert 202 == answer.status_code
    assert URL == broker.submitted[0].job.callback_url


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "file:///etc/passwd",
        "https://me@hooks.example.com/",
        "https://hooks.example.com:22/",
        "https://localhost/",
        "https://127.1/",
        "https://0x7f000001/",
        "https://[::ffff:127.0.0.1]/",
        "https://metadata.google.internal/",
        "https://nowhere.example.com/",
        "nonsense",
        "",
        7,
    ],
)
async def test_a_forbidden_callback_url_is_refused_at_submission(http, broker, resolver, url):
    """With a pointer; the job is not accepted."""
    resolver.addresses |= {
        "localhost": ["::1", "127.0.0.1"],
        "127.1": ["127.0.0.1"],
        "0x7f000001": ["127.0.0.1"],
        "::ffff:127.0.0.1": ["::ffff:127.0.0.1"],
        "metadata.google.internal": ["169.254.169.254"],
    }
    events = problem(await http.post("/v1/jobs", json={**JOB, "callback_url": url}), 422, "invalid-request")
    assert ["/callback_url"] == [error["pointer"] for error in events["errors"]]
    assert [] == broker.submitted


async def test_a_dns_outage_is_not_an_invalid_url(http, resolver):
    """503 with Retry-After."""
    resolver.addresses["hooks.example.com"] = socket.gaierror(socket.EAI_AGAIN, "try again")
    answer = await http.post("/v1/jobs", json=JOB)
    problem(answer, 503, "not-accepted")
    assert "retry-after" in answer.headers


async def test_a_batch_resolves_each_host_once(http, resolver, broker):
    """And each job is accepted or refused separately."""
    jobs = [JOB, {**JOB, "callback_url": "https://127.0.0.1/"}, JOB]
    resolver.addresses["127.0.0.1"] = ["127.0.0.1"]
    events = (await http.post("/v1/jobs:batch", json={"jobs": jobs})).json()
    assert [202, 422, 202] == [item["status"] for item in events["items"]]
    assert "/jobs/1/callback_url" == events["items"][1]["problem"]["errors"][0]["pointer"]
    assert ["127.0.0.1", "hooks.example.com"] == sorted(resolver.lookups)


async def test_a_batch_may_have_10_callback_hosts(http, resolver):
    """Each is resolved before the response; a host that fails is not resolved again."""
    resolver.addresses["slow.example.com"] = socket.gaierror(socket.EAI_AGAIN, "try again")
    jobs = [{**JOB, "callback_url": f"https://slow.example.com/{number}"} for number in range(20)]
    jobs += [{**JOB, "callback_url": f"https://h{number}.example.com/"} for number in range(20)]
    events = (await http.post("/v1/jobs:batch", json={"jobs": jobs})).json()
    assert [503] * 20 + [422] * 20 == [item["status"] for item in events["items"]]
    assert "at most 10 hosts" in events["items"][-1]["problem"]["errors"][0]["detail"]
    assert 10 == len(resolver.lookups)


async def test_a_callback_url_requires_webhook_keys(http, app):
    """422 instead of a webhook that is never sent."""
    dependencies = app.state.dependencies
    object.__setattr__(dependencies.acceptance, "callback_urls", CallbackUrls(None, None))
    object.__setattr__(dependencies.webhooks, "keys", None)
    events = problem(await http.post("/v1/jobs", json=JOB), 422, "invalid-request")
    assert "MILEPOST_WEBHOOK_KEYS" in events["errors"][0]["detail"]
    problem(await http.get("/v1/webhook-secrets"), 409, "no-webhook")


async def test_the_delivery_attempts_of_a_webhook_are_listed(http, job_id, webhook_log):
    """Oldest first."""
    webhook_log.deliveries[job_id] = [
        WebhookTry(webhook_id="w", event="succeeded", number=1, at=AT, outcome="failed", status_code=503, next_at=AT),
        WebhookTry(webhook_id="w", event="succeeded", number=2, at=AT, outcome="delivered", status_code=200),
    ]
    events = (await http.get(f"/v1/jobs/{job_id}/webhooks")).json()
    assert URL == events["url"]
    assert [("failed", 503), ("delivered", 200)] == [
        (attempt["outcome"], attempt["status_code"]) for attempt in events["items"]
    ]


async def test_a_redelivered_webhook_keeps_its_id(http, broker, job_id):
    """The terminal event of the job is published again."""
    answer = await http.post(f"/v1/jobs/{job_id}/webhooks/redeliver")
    assert 202 == answer.status_code
    assert answer.headers["location"].endswith(f"/v1/jobs/{job_id}/webhooks")
    (event,) = broker.events
    assert (JobSucceeded, answer.json()["webhook_id"]) == (type(event), event.event_id)


async def test_only_the_end_of_a_job_with_a_callback_can_be_redelivered(http, keyring, view, job_id):
    """409 without a callback URL and before the end; 503 if the event has expired."""
    without_callback, running = (keyring.issue("default") for _ in range(2))
    view.project(JobSucceeded(job=ENDED.model_copy(update={"id": without_callback})))
    view.project(JobStarted(job=RUNNING.model_copy(update={"id": running, "callback_url": URL})))
    problem(await http.post(f"/v1/jobs/{without_callback}/webhooks/redeliver"), 409, "no-webhook")
    problem(await http.get(f"/v1/jobs/{without_callback}/webhooks"), 409, "no-webhook")
    problem(await http.post(f"/v1/jobs/{running}/webhooks/redeliver"), 409, "job-not-finished")
    problem(await http.get(f"/v1/jobs/{keyring.issue('other')}/webhooks"), 404, "unknown-job")
    view.events[job_id].clear()
    problem(await http.post(f"/v1/jobs/{job_id}/webhooks/redeliver"), 503, "status-unavailable")


@pytest.mark.parametrize(
    "error, slug",
    [(lambda _: NotAccepted("no"), "not-accepted"), (lambda e: OutcomeUnknown(e.subject, "?"), "outcome-unknown")],
)
async def test_a_redelivery_gets_503_while_the_broker_is_away(http, broker, job_id, error, slug):
    """Repeating it is harmless: the webhook id is the same."""
    broker.error = error
    problem(await http.post(f"/v1/jobs/{job_id}/webhooks/redeliver"), 503, slug)


async def test_webhook_secrets_are_per_tenant_and_for_admins(http, rules, app):
    """The response is not cacheable."""
    headers_by_tenant = {}
    for tenant, scope in (("acme", Scope.ADMIN), ("other", Scope.ADMIN), ("reader", Scope.READ)):
        text, entry = create_key(tenant, frozenset({scope}))
        rules.access = (rules.access or Access()).with_key(entry)
        headers_by_tenant[tenant] = {"Authorization": f"Bearer {text}"}
    object.__setattr__(app.state.dependencies.authentication, "open", False)
    answers = {
        tenant: await http.get("/v1/webhook-secrets", headers=headers) for tenant, headers in headers_by_tenant.items()
    }
    problem(answers["reader"], 403, "forbidden")
    (acme,), (other,) = (answers[tenant].json()["items"] for tenant in ("acme", "other"))
    assert acme.startswith("whsec_")
    assert acme != other
    assert "no-store" == answers["acme"].headers["cache-control"]
