"""Property tests with schemathesis: the HTTP interface behaves as openapi.json says."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from milepost_contracts.messages.job_events import JobStarted, JobSucceeded
from milepost_gateway.bootstrap import build_app

schemathesis = pytest.importorskip("schemathesis", reason="not in the gateway's own environment")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

COMMITTED = Path(__file__).parents[3] / "docs" / "reference" / "openapi.json"
OPERATIONS = [
    (path, method.upper())
    for path, operations in build_app().openapi()["paths"].items()
    for method in operations
    if not path.endswith("/events")  # a stream stays open until its job has ended
]
EXCLUDED_CHECKS = [checks.positive_data_acceptance]
"""Input that fits the schema is not always accepted: the type must be announced, the params must fit its schema, a
cursor must come from an earlier page, and 5.0 is no integer here."""
QUICK = settings(
    max_examples=50,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_the_committed_document_is_up_to_date():
    """`make contracts` regenerates it."""
    assert json.loads(COMMITTED.read_text()) == build_app().openapi(), "run 'make contracts'"


async def test_every_documented_example_of_a_request_is_accepted(app, http):
    """The docs page fills its forms in with them: unchanged, they submit a job, a job with a file, or a batch."""
    schemas = app.openapi()["components"]["schemas"]
    [job], [batch], [redrive] = (schemas[name]["examples"] for name in ("Submission", "BatchRequest", "RedriveRequest"))
    form = {"job": (None, json.dumps(job), "application/json"), "file": ("a.txt", b"a")}
    assert 202 == (await http.post("/v1/jobs", json=job)).status_code
    assert 202 == (await http.post("/v1/jobs", files=form)).status_code
    assert {202} == {item["status"] for item in (await http.post("/v1/jobs:batch", json=batch)).json()["items"]}
    assert 200 == (await http.post("/v1/dead-letters:redrive", json=redrive)).status_code


@pytest.fixture
def api(app, broker, view):
    """The app with a broker that starts every job at once and completes every other one."""
    submit = broker.submit

    async def submit_and_run(command):
        await submit(command)
        job = command.job.model_copy(update={"started_at": command.time, "execution": "badcafe0", "worker": "w"})
        view.project(JobStarted(job=job), 1)
        if len(broker.submitted) % 2:
            view.project(JobSucceeded(job=job.model_copy(update={"finished_at": command.time})), 2)

    broker.submit = submit_and_run
    return schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.mark.parametrize("path, method", OPERATIONS, ids=[f"{method} {path}" for path, method in OPERATIONS])
def test_every_response_is_as_documented(api, path, method):
    """No 500, and no status, header, media type or body that openapi.json does not name."""

    @QUICK
    @given(case=api[path][method].as_strategy())
    def check(case):
        case.call_and_validate(excluded_checks=EXCLUDED_CHECKS)

    check()


def _remove_examples(node):
    if isinstance(node, dict):
        node.pop("examples", None)
        node.pop("example", None)
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _remove_examples(inner)


def test_every_response_along_the_links_is_as_documented(api):
    """A job is submitted, read, canceled and retried in any order.

    Without the examples: their jobs would be accepted, and Hypothesis needs a gateway that is the same in each run.
    """
    _remove_examples(api.raw_schema)

    class Links(api.as_state_machine()):
        def validate_response(self, response, case, **more):
            del more
            case.validate_response(response, excluded_checks=EXCLUDED_CHECKS)

    Links.run(settings=settings(QUICK, stateful_step_count=6))
