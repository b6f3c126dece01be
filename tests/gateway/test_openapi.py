"""The HTTP interface is what its document says, as schemathesis finds out, which nobody here wrote."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from milepost_contracts.events import JobStarted, JobSucceeded
from milepost_gateway.bootstrap import build_app

schemathesis = pytest.importorskip("schemathesis", reason="not in the gateway's own environment")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

COMMITTED = Path(__file__).parent.parent.parent / "docs" / "reference" / "openapi.json"
OPERATIONS = [
    (path, method.upper())
    for path, operations in build_app().openapi()["paths"].items()
    for method in operations
    if not path.endswith("/events")  # they go on for as long as the job does
]
LEFT_OUT = [checks.positive_data_acceptance]
"""What fits the schema is not always accepted: a type has to be announced, params have to fit it, a cursor must have
been handed out, and 5.0 is no integer here."""
QUICK = settings(
    max_examples=50,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_the_committed_document_is_the_present_one():
    """`make contracts` writes it anew."""
    assert json.loads(COMMITTED.read_text()) == build_app().openapi(), "run 'make contracts'"


@pytest.fixture
def api(app, broker, store):
    """The app with a broker whose jobs are all done at once, but for those that are to be seen running."""
    submit = broker.submit

    async def done(command):
        await submit(command)
        job = command.job.model_copy(update={"started_at": command.time, "execution": "badcafe0", "worker": "w"})
        store.project(JobStarted(job=job), 1)
        if len(broker.submitted) % 2:
            store.project(JobSucceeded(job=job.model_copy(update={"finished_at": command.time})), 2)

    broker.submit = done
    return schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.mark.parametrize("path, method", OPERATIONS, ids=[f"{method} {path}" for path, method in OPERATIONS])
def test_every_answer_is_as_documented(api, path, method):
    """Whatever is asked: no 500, no status, header, media type or body that the document does not have."""

    @QUICK
    @given(case=api[path][method].as_strategy())
    def ask(case):
        case.call_and_validate(excluded_checks=LEFT_OUT)

    ask()


def test_every_answer_is_as_documented_along_the_links(api):
    """A job is handed over, looked at, canceled and run again, in any order."""

    class Links(api.as_state_machine()):
        def validate_response(self, response, case, **more):
            del more
            case.validate_response(response, excluded_checks=LEFT_OUT)

    Links.run(settings=settings(QUICK, stateful_step_count=6))
