"""Fields are read from a rendered document as a parser would read them, whatever else is in it."""

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_histories import RETENTION, job_events
from samples import ENDED, RUNNING, SUBMITTED

from milepost_contracts import document
from milepost_contracts.envelope import now
from milepost_contracts.events import JobProgressed, JobSucceeded
from milepost_contracts.glance import expires_at, glance, with_waiting
from milepost_contracts.values import Progress

NASTY = '","queue":"x","status":"failed","eta_seconds":9,"run_at":"2000-01-01T00:00:00Z","waiting":null,"links":{'
NESTED = {"queue": "x", "status": "failed", "waiting": None, "links": {}, "expires_at": "2000-01-01T00:00:00Z"}


def rendered(event):
    return document.render(event, cancel=None, version=7, retention=RETENTION)


def expected(body):
    parsed = json.loads(body)
    moments = [datetime.fromisoformat(parsed[name]) if parsed[name] else None for name in ("run_at", "expires_at")]
    eta = (parsed["progress"] or {}).get("eta_seconds")
    updated = datetime.fromisoformat(parsed["updated_at"])
    return parsed["status"], parsed["queue"], parsed["run"], parsed["tags"], eta, updated, *moments


def read(body):
    found = glance(body)
    return (
        found.status,
        found.queue,
        found.run,
        list(found.tags),
        found.eta,
        found.updated_at,
        found.run_at,
        datetime.fromisoformat(expires_at(body).decode()) if found.status.terminal else None,
    )


@given(job_events())
def test_it_reads_what_a_parser_would(event):
    """Of every document there is."""
    assert expected(rendered(event)) == read(rendered(event))


@given(st.text(), st.floats(0, 1e9))
def test_text_of_others_does_not_pass_for_a_field(text, eta):
    """Nor does anything else that a handler or a client chose."""
    progress = Progress(
        done=1, total=2, percent=50.0, unit=None, message=(text + NASTY)[:500], rate=None, eta_seconds=eta
    )
    job = RUNNING.model_copy(
        update={"progress": progress, "params": NESTED, "worker": NASTY[:60], "tags": ('],"progress":', 'a"]')}
    )
    body = rendered(JobProgressed(job=job))
    assert expected(body) == read(body)
    ended = rendered(JobSucceeded(job=ENDED.model_copy(update={"progress": progress, "result": NESTED})))
    assert expected(ended) == read(ended)


def test_a_job_that_no_tracker_has_seen_is_read_too():
    """It has a status and a time."""
    body = document.unprojected(SUBMITTED.id, now())
    assert expected(body) == read(body)


@pytest.mark.parametrize("result", [None, NESTED, [NASTY], {"a": [{"waiting": None, "links": {"waiting": None}}]}])
def test_why_a_job_waits_is_said_in_its_own_place(result):
    """Not in its result."""
    body = rendered(JobSucceeded(job=ENDED.model_copy(update={"result": result})))
    told = json.loads(with_waiting(body, b'{"reason":"x"}'))
    assert {"reason": "x"} == told["waiting"]
    assert json.loads(body) == told | {"waiting": None}
