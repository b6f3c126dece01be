"""What a gateway tells Prometheus."""

import pytest
from problem_answers import problem
from prometheus_client import REGISTRY
from samples import RUNNING

from milepost_contracts.access import Access, Scope, create_key
from milepost_contracts.events import JobStarted


@pytest.fixture
def counted():
    """Tell by how much a metric has grown."""

    def value(name, **labels):
        return REGISTRY.get_sample_value(name, labels) or 0

    def grown(name, **labels):
        return value(name, **labels) - before.setdefault((name, *labels.values()), value(name, **labels))

    before = {}
    return grown


async def test_submissions_and_problems_are_counted(http, counted):
    """By type, and by what was wrong; never by id."""
    for name, labels in (
        ("milepost_jobs_submitted_total", {"type": "count"}),
        ("milepost_problems_total", {"problem": "unknown-job-type"}),
    ):
        counted(name, **labels)
    await http.post("/v1/jobs", json={"type": "count"})
    await http.post("/v1/jobs", json={"type": "nothing"})
    assert 1 == counted("milepost_jobs_submitted_total", type="count")
    assert 1 == counted("milepost_problems_total", problem="unknown-job-type")


async def test_requests_are_timed_by_route(http, store, counted):
    """The route as it is written, whatever stands in its places; what is no route is one for all."""
    looks = {"method": "GET", "route": "/v1/jobs/{job_id}", "status": "404"}
    strays = {"method": "GET", "route": "none", "status": "404"}
    counted("milepost_http_request_duration_seconds_count", **looks)
    counted("milepost_http_request_duration_seconds_count", **strays)
    await http.get("/v1/jobs/nonsense")
    await http.get("/made/up")
    await http.request("MADEUP", "/made/up")
    assert not counted("milepost_http_request_duration_seconds_count", method="MADEUP", route="none", status="404")
    assert 1 == counted("milepost_http_request_duration_seconds_count", **looks)
    assert 1 == counted("milepost_http_request_duration_seconds_count", **strays)


async def test_metrics_are_told_in_prometheus_format(http, store, keyring):
    """To whoever may: they tell of all tenants."""
    job_id = keyring.issue("default")
    store.project(JobStarted(job=RUNNING.model_copy(update={"id": job_id})))
    await http.get(f"/v1/jobs/{job_id}")
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE milepost_stream_clients gauge" in answer.text
    assert "/v1/jobs/{job_id}" in answer.text
    assert job_id not in answer.text


async def test_metrics_are_for_admins_of_the_deployment(rules, app, http):
    """Where there is an access file: they tell of all tenants."""
    object.__setattr__(app.state.services.access, "open", False)
    rules.access = Access()
    problem(await http.get("/metrics"), 401, "unauthenticated")
    for who, scope, status in (
        ("acme", Scope.ADMIN, 403),
        ("default", Scope.SUBMIT, 403),
        ("default", Scope.ADMIN, 200),
    ):
        text, entry = create_key(who, frozenset({scope}))
        rules.access = rules.access.with_key(entry)
        answer = await http.get("/metrics", headers={"X-API-Key": text})
        assert status == answer.status_code, (who, scope)
