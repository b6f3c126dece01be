"""Callback URLs at the door, what became of webhooks, and sending one again."""

import socket

import pytest
from problem_answers import problem
from samples import AT, ENDED, RUNNING

from milepost_contracts.access import Access, Scope, create_key
from milepost_contracts.events import JobStarted, JobSucceeded
from milepost_contracts.webhooks import WebhookTry
from milepost_gateway.callbacks import Callbacks
from milepost_gateway.errors import NotAccepted, OutcomeUnknown

URL = "https://hooks.example.com/milepost?token=1"
JOB = {"type": "count", "params": {"steps": 1}, "callback_url": URL}


@pytest.fixture
def job_id(keyring, store):
    """A job that has ended, and whose end is to be told."""
    job = ENDED.model_copy(update={"id": keyring.issue("default"), "callback_url": URL})
    store.project(JobStarted(job=job.model_copy(update={"finished_at": None})))
    store.project(JobSucceeded(job=job), version=2)
    return job.id


async def test_the_url_travels_with_the_job(http, broker):
    """Every event of the job has it, so that whoever hears of the end can tell it."""
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
async def test_a_url_that_may_not_be_called_is_refused_at_the_door(http, broker, hosts, url):
    """With the place, and a sentence that helps; nothing is accepted."""
    hosts.found |= {
        "localhost": ["::1", "127.0.0.1"],
        "127.1": ["127.0.0.1"],
        "0x7f000001": ["127.0.0.1"],
        "::ffff:127.0.0.1": ["::ffff:127.0.0.1"],
        "metadata.google.internal": ["169.254.169.254"],
    }
    told = problem(await http.post("/v1/jobs", json={**JOB, "callback_url": url}), 422, "invalid-request")
    assert ["/callback_url"] == [error["pointer"] for error in told["errors"]]
    assert [] == broker.submitted


async def test_a_name_server_that_is_away_is_no_fault_of_the_url(http, hosts):
    """The client may come again."""
    hosts.found["hooks.example.com"] = socket.gaierror(socket.EAI_AGAIN, "try again")
    answer = await http.post("/v1/jobs", json=JOB)
    problem(answer, 503, "not-accepted")
    assert "retry-after" in answer.headers


async def test_a_host_is_looked_for_once_for_a_whole_batch(http, hosts, broker):
    """And each job is accepted or refused by itself."""
    jobs = [JOB, {**JOB, "callback_url": "https://127.0.0.1/"}, JOB]
    hosts.found["127.0.0.1"] = ["127.0.0.1"]
    told = (await http.post("/v1/jobs:batch", json={"jobs": jobs})).json()
    assert [202, 422, 202] == [item["status"] for item in told["items"]]
    assert "/jobs/1/callback_url" == told["items"][1]["problem"]["errors"][0]["pointer"]
    assert ["127.0.0.1", "hooks.example.com"] == sorted(hosts.asked)


async def test_the_jobs_of_a_batch_call_back_few_hosts(http, hosts):
    """Each has to be found before the answer; one that is not found is not looked for again and again."""
    hosts.found["slow.example.com"] = socket.gaierror(socket.EAI_AGAIN, "try again")
    jobs = [{**JOB, "callback_url": f"https://slow.example.com/{number}"} for number in range(20)]
    jobs += [{**JOB, "callback_url": f"https://h{number}.example.com/"} for number in range(20)]
    told = (await http.post("/v1/jobs:batch", json={"jobs": jobs})).json()
    assert [503] * 20 + [422] * 20 == [item["status"] for item in told["items"]]
    assert "at most 10 hosts" in told["items"][-1]["problem"]["errors"][0]["detail"]
    assert 10 == len(hosts.asked)


async def test_a_deployment_without_keys_sends_none_and_says_so(http, app):
    """Rather than to forget it silently."""
    parts = app.state.services
    object.__setattr__(parts.acceptance, "callbacks", Callbacks(None, None))
    object.__setattr__(parts.webhooks, "keys", None)
    told = problem(await http.post("/v1/jobs", json=JOB), 422, "invalid-request")
    assert "MILEPOST_WEBHOOK_KEYS" in told["errors"][0]["detail"]
    problem(await http.get("/v1/webhook-secrets"), 409, "no-webhook")


async def test_what_became_of_a_webhook_is_told(http, store, job_id):
    """Every try, oldest first."""
    store.webhooks[job_id] = [
        WebhookTry(webhook_id="w", event="succeeded", number=1, at=AT, outcome="failed", status_code=503, next_at=AT),
        WebhookTry(webhook_id="w", event="succeeded", number=2, at=AT, outcome="delivered", status_code=200),
    ]
    told = (await http.get(f"/v1/jobs/{job_id}/webhooks")).json()
    assert URL == told["url"]
    assert [("failed", 503), ("delivered", 200)] == [(one["outcome"], one["status_code"]) for one in told["items"]]


async def test_a_webhook_is_sent_again_with_its_own_id(http, broker, store, job_id):
    """The very event that told the end."""
    answer = await http.post(f"/v1/jobs/{job_id}/webhooks/redeliver")
    assert 202 == answer.status_code
    assert answer.headers["location"].endswith(f"/v1/jobs/{job_id}/webhooks")
    (event,) = broker.told
    assert (JobSucceeded, answer.json()["webhook_id"]) == (type(event), event.event_id)


async def test_only_an_end_that_somebody_is_to_be_told_of_is_told_again(http, keyring, store, job_id):
    """Not of a job without a callback, nor before its end, nor what is no longer kept."""
    silent, live = (keyring.issue("default") for _ in range(2))
    store.project(JobSucceeded(job=ENDED.model_copy(update={"id": silent})))
    store.project(JobStarted(job=RUNNING.model_copy(update={"id": live, "callback_url": URL})))
    problem(await http.post(f"/v1/jobs/{silent}/webhooks/redeliver"), 409, "no-webhook")
    problem(await http.get(f"/v1/jobs/{silent}/webhooks"), 409, "no-webhook")
    problem(await http.post(f"/v1/jobs/{live}/webhooks/redeliver"), 409, "job-not-finished")
    problem(await http.get(f"/v1/jobs/{keyring.issue('other')}/webhooks"), 404, "unknown-job")
    store.happened[job_id].clear()
    problem(await http.post(f"/v1/jobs/{job_id}/webhooks/redeliver"), 503, "status-unavailable")


@pytest.mark.parametrize(
    "error, slug",
    [(lambda _: NotAccepted("no"), "not-accepted"), (lambda e: OutcomeUnknown(e.subject, "?"), "outcome-unknown")],
)
async def test_a_broker_that_is_away_is_said(http, broker, job_id, error, slug):
    """Asking again is harmless: the id is the same."""
    broker.error = error
    problem(await http.post(f"/v1/jobs/{job_id}/webhooks/redeliver"), 503, slug)


async def test_secrets_are_each_tenants_own_and_for_admins(http, rules, app):
    """And are not to be cached."""
    entries = {}
    for tenant, scope in (("acme", Scope.ADMIN), ("other", Scope.ADMIN), ("reader", Scope.READ)):
        text, entry = create_key(tenant, frozenset({scope}))
        rules.access = (rules.access or Access()).with_key(entry)
        entries[tenant] = {"Authorization": f"Bearer {text}"}
    object.__setattr__(app.state.services.access, "open", False)
    answers = {tenant: await http.get("/v1/webhook-secrets", headers=headers) for tenant, headers in entries.items()}
    problem(answers["reader"], 403, "forbidden")
    (acme,), (other,) = (answers[tenant].json()["items"] for tenant in ("acme", "other"))
    assert acme.startswith("whsec_")
    assert acme != other
    assert "no-store" == answers["acme"].headers["cache-control"]
