"""`milepost.testing` gives a job the same outcome as a processor."""

import pytest
from odd_handlers import FIRST, async_handler, command, files_handler, retried_handler, sync_handler

from milepost.testing import run_job

HANDLERS = {"sync": sync_handler, "retried": retried_handler, "async": async_handler, "files": files_handler}


def run_to_its_end(runner, publisher, type, do):
    """Run a job in the processor until it ends; return the last event."""
    runner.execute(command(type, do=do), FIRST)
    for _ in range(10):
        if publisher.events[-1].status.terminal:
            break
        runner.execute(publisher.events[-1], FIRST)
    return publisher.events[-1]


ENDS = ["return", "raise", "input", "reject", "exit", "cancel", "timeout", "wrong", "number", "deep"]
ENDS += ["own-stop", "no-text", "nan", "generator"]
ENDS += ["group-cancel", "group-timeout", "group-reject", "group-input", "group-raise"]


@pytest.mark.parametrize("do", ENDS)
@pytest.mark.parametrize("type", ["sync", "retried", "async"])
def test_outcomes_are_those_of_a_processor(runner, publisher, type, do):
    """Status, result, kind of error and number of attempts are the same."""
    ended = run_to_its_end(runner, publisher, type, do)
    outcome = run_job(HANDLERS[type], {"do": do})
    assert ended.status == outcome.status
    assert ended.job.result == outcome.result
    for field in ("kind", "message", "exception"):
        assert getattr(ended.job.error, field, None) == getattr(outcome.error, field, None)
    assert [one.number for one in ended.job.attempts] == list(range(1, len(outcome.attempts) + 1))


@pytest.mark.parametrize("do", ["write", "write-both", "write-half"])
def test_outcomes_of_handlers_that_write_files_are_those_of_a_processor(runner, publisher, do):
    """A handler writes a file, writes a result and returns one too, or fails while it writes."""
    ended = run_to_its_end(runner, publisher, "files", do)
    outcome = run_job(files_handler, {"do": do})
    assert (ended.status, ended.job.error and ended.job.error.kind) == (
        outcome.status,
        outcome.error and outcome.error.kind,
    )


def test_invalid_params_fail_as_in_a_processor(runner, publisher):
    """The error message is the same."""
    ended = run_to_its_end(runner, publisher, "sync", 5)
    outcome = run_job(sync_handler, {"do": 5})
    assert (ended.job.error.kind, ended.job.error.message) == (outcome.error.kind, outcome.error.message)
