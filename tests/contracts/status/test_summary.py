"""The summary of a document: what a gateway needs without parsing the document."""

import json
from datetime import datetime

from hypothesis import given
from job_histories import RETENTION, job_events
from samples import AT

from milepost_contracts.states import Status
from milepost_contracts.status.render import render_document
from milepost_contracts.status.summary import read_summary, render_summary, summarize, unprojected_summary


def moment(text):
    return datetime.fromisoformat(text) if text else None


@given(job_events())
def test_a_summary_agrees_with_its_document(event):
    """It is stored beside the document, so the content of the job cannot change it."""
    document = json.loads(render_document(event, cancel=None, version=7, retention=RETENTION))
    summary = read_summary(event.status, render_summary(summarize(event, retention=RETENTION)))
    assert document["status"] == summary.status
    assert (document["queue"], document["run"], tuple(document["tags"])) == (summary.queue, summary.run, summary.tags)
    assert (document["progress"] or {}).get("eta_seconds") == summary.eta
    for name in ("updated_at", "run_at", "expires_at"):
        assert moment(document[name]) == getattr(summary, name)


def test_an_unprojected_job_has_a_summary():
    """It is queued since its id was issued."""
    summary = unprojected_summary(AT)
    assert (Status.QUEUED, None, 1, AT) == (summary.status, summary.queue, summary.run, summary.updated_at)
    assert summary == read_summary(Status.QUEUED, render_summary(summary))
