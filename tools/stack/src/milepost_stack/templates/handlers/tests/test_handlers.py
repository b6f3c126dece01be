"""Tests of the handlers, in-process and without a broker. The package milepost has the fixture `milepost_run`."""

from $module import count_words


def test_words_are_counted(milepost_run):
    outcome = milepost_run(count_words, {"text": "one three two"})
    assert outcome.result == {"words": 3, "longest": "three"}
    assert [one.done for one in outcome.progress] == [0, 1, 2, 3]


def test_a_text_without_words_fails(milepost_run):
    outcome = milepost_run(count_words, {"text": " "})
    assert (outcome.status, outcome.error.kind) == ("failed", "input-error")


def test_a_canceled_job_stops(milepost_run):
    outcome = milepost_run(count_words, {"text": "one two three"}, cancel_at=2)
    assert outcome.status == "canceled"
