"""Law 4, for the pure function."""

import json

from hypothesis import given
from hypothesis import strategies as st
from job_histories import RETENTION, deliveries, histories, job_events
from merge_suite import MergeLaw
from trusted import received

from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import JobSubmitted, decode_event
from milepost_contracts.status import render
from milepost_contracts.status.merge import View, apply, by_job, merge


class TestThePureFunction(MergeLaw):
    """The same suite runs against the tracker's Lua script, in tests/integration."""

    def fold(self, batches):
        view = View()
        for batch in batches:
            for event in batch:
                view = apply(view, event)
        if view.shown is None:
            return None
        shown = json.loads(render.render_document(view.shown, cancel=view.cancel, version=0, retention=RETENTION))
        del shown["version"]
        return shown


@given(histories(with_deletions=True))
def test_merging_a_batch_equals_applying_its_events_one_by_one(history):
    """A tracker may merge a batch before it calls Redis: the law is associative."""
    one_by_one = View()
    for event in history:
        one_by_one = apply(one_by_one, event)
    assert {"job": one_by_one} == merge(history)


@given(histories(min_size=2, with_deletions=True), st.data())
def test_an_event_without_news_returns_the_identical_view(history, data):
    """The identical object means that nothing has changed, so the version stays the same."""
    view = merge(history)["job"]
    assert view is apply(view, data.draw(st.sampled_from(history)))


def winning(messages):
    return [
        event
        for candidates in by_job(messages).values()
        for event in candidates.winning(lambda message: decode_event(message.body))
    ]


@given(deliveries())
def test_dropping_losing_messages_before_decoding_changes_no_view(history_and_delivered):
    """A rebuild reads far more messages than it has to decode."""
    _, delivered = history_and_delivered
    assert merge(delivered) == merge(winning(received(encode(event)) for event in delivered))


@given(job_events(kinds=[JobSubmitted]))
def test_an_unreadable_message_hides_no_other_event(submitted):
    """It may name a job and have a higher sequence: the next valid event still wins."""
    sequence = b'"sequence":"' + submitted.sequence.encode()
    with_higher_sequence = encode(submitted).replace(sequence, b'"sequence":"9999' + submitted.sequence[4:].encode())
    assert [submitted] == winning(map(received, [with_higher_sequence, encode(submitted), b"garbage", b"{}"]))
