"""Law 4 on the pure function."""

import json

from hypothesis import given
from hypothesis import strategies as st
from job_histories import RETENTION, histories
from merge_suite import MergeLaw

from milepost_contracts import document
from milepost_contracts.view import View, apply, merge


class TestThePureFunction(MergeLaw):
    """The same suite runs against the tracker's Lua script, in tests/integration."""

    def fold(self, batches):
        view = View()
        for batch in batches:
            for event in batch:
                view = apply(view, event)
        if view.latest is None:
            return None
        state = document.render_state(view.latest, retention=RETENTION)
        shown = json.loads(document.assemble(0, state, document.render_cancel(view.cancel)))
        del shown["version"]
        return shown


@given(histories())
def test_merging_a_batch_first_and_applying_it_then_is_the_same(history):
    """A tracker may fold a batch by itself before it asks Redis: the law is associative."""
    one_by_one = View()
    for event in history:
        one_by_one = apply(one_by_one, event)
    assert {"job": one_by_one} == merge(history)


@given(histories(min_size=2), st.data())
def test_what_says_nothing_new_gives_back_the_very_same_view(history, data):
    """No change is told by identity: no version is spent on it."""
    view = merge(history)["job"]
    assert view is apply(view, data.draw(st.sampled_from(history)))
