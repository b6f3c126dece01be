"""The gateway's Prometheus metrics."""

import pytest
from problem_answers import problem
from prometheus_client import REGISTRY
from samples import RUNNING

from milepost_contracts.http.access import Access, Scope, create_key
from milepost_contracts.messages.job_events import JobStarted


@pytest.fixture
def counted():
    """Return a function that returns how much a metric has grown since its first call."""

    def value(name, **labels):
        return REGISTRY.get_sample_value(name, labels) or 0

    def grown(name, **labels):
        return value(name, **labels) - before.setdefault((name, *labels.values()), value(name, **labels))

    before = {}
    return grown


async def test_submissions_and_problems_are_counted(http, counted):
    """By job type and by problem; ids are no labels."""
    for name, labels in (
        ("milepost_jobs_submitted_total", {"type": "count"}),
        ("milepost_problems_total", {"problem": "unknown-job-type"}),
    ):
        counted(name, **labels)
    await http.post("/v1/jobs", json={"type": "count"})
    await http.post("/v1/jobs", json={"type": "nothing"})
    assert 1 == counted("milepost_jobs_submitted_total", type="count")
    assert 1 == counted("milepost_problems_total", problem="unknown-job-type")


async def test_requests_are_timed_by_route(http, counted):
    """The label is the route template; all requests that match no route share one label."""
    matched = {"method": "GET", "route": "/v1/jobs/{job_id}", "status": "404"}
    unmatched = {"method": "GET", "route": "none", "status": "404"}
    counted("milepost_http_request_duration_seconds_count", **matched)
    counted("milepost_http_request_duration_seconds_count", **unmatched)
    await http.get("/v1/jobs/nonsense")
    await http.get("/made/up")
    await http.request("MADEUP", "/made/up")
    assert not counted("milepost_http_request_duration_seconds_count", method="MADEUP", route="none", status="404")
    assert 1 == counted("milepost_http_request_duration_seconds_count", **matched)
    assert 1 == counted("milepost_http_request_duration_seconds_count", **unmatched)


async def test_metrics_are_served_in_prometheus_format(http, view, keyring):
    """With route templates instead of job ids."""
    job_id = keyring.issue("default")
    view.project(JobStarted(job=RUNNING.model_copy(update={"id": job_id})))
    await http.get(f"/v1/jobs/{job_id}")
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE milepost_stream_clients gauge" in answer.text
    assert "/v1/jobs/{job_id}" in answer.text
    assert job_id not in answer.text


async def test_metrics_require_an_admin_key_of_the_default_tenant(rules, app, http):
    """If there is an access file: the metrics cover all tenants."""
    object.__setattr__(app.state.dependencies.authentication, "open", False)
    rules.access = Access()
    problem(await http.get("/metrics"), 401, "unauthenticated")
    for tenant, scope, status in (
        ("acme", Scope.ADMIN, 403),
        ("default", Scope.SUBMIT, 403),
        ("default", Scope.ADMIN, 200),
    ):
        text, entry = create_key(tenant, frozenset({scope}))
        rules.access = rules.access.with_key(entry)
        answer = await http.get("/metrics", headers={"X-API-Key": text})
        assert status == answer.status_code, (tenant, scope)
