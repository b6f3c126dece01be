"""Law 4 on the pure function."""

import json

from hypothesis import given
from hypothesis import strategies as st
from job_histories import RETENTION, deliveries, histories, job_events
from merge_suite import MergeLaw

from milepost_contracts import document
from milepost_contracts.envelope import encode
from milepost_contracts.events import JobSubmitted
from milepost_contracts.view import View, apply, by_job, merge


class TestThePureFunction(MergeLaw):
    """The same suite runs against the tracker's Lua script, in tests/integration."""

    def fold(self, batches):
        view = View()
        for batch in batches:
            for event in batch:
                view = apply(view, event)
        if view.shown is None:
            return None
        shown = json.loads(document.render(view.shown, cancel=view.cancel, version=0, retention=RETENTION))
        del shown["version"]
        return shown


@given(histories(forgetful=True))
def test_merging_a_batch_first_and_applying_it_then_is_the_same(history):
    """A tracker may fold a batch by itself before it asks Redis: the law is associative."""
    one_by_one = View()
    for event in history:
        one_by_one = apply(one_by_one, event)
    assert {"job": one_by_one} == merge(history)


@given(histories(min_size=2, forgetful=True), st.data())
def test_what_says_nothing_new_gives_back_the_very_same_view(history, data):
    """No change is told by identity: no version is spent on it."""
    view = merge(history)["job"]
    assert view is apply(view, data.draw(st.sampled_from(history)))


def won(messages):
    return [event for told in by_job(messages).values() for event in told.won()]


@given(deliveries())
def test_dropping_what_loses_before_it_is_decoded_changes_no_view(history_and_delivered):
    """A rebuild reads far more than it has to understand."""
    _, delivered = history_and_delivered
    assert merge(delivered) == merge(won(encode(event) for event in delivered))


@given(job_events(kinds=[JobSubmitted]))
def test_what_can_not_be_read_hides_nothing(submitted):
    """It may name a job, and claim any sequence: the next one wins."""
    sequence = b'"sequence":"' + submitted.sequence.encode()
    claims_more = encode(submitted).replace(sequence, b'"sequence":"9999' + submitted.sequence[4:].encode())
    assert [submitted] == won([claims_more, encode(submitted), b"garbage", b"{}"])
