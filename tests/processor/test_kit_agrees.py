"""What `milepost.testing` says becomes of a job is what a processor makes of it."""

import pytest
from odd_handlers import FIRST, async_handler, command, files_handler, retried_handler, sync_handler

from milepost.testing import run_job

HANDLERS = {"sync": sync_handler, "retried": retried_handler, "async": async_handler, "files": files_handler}


def processed(executor, outbox, type, do):
    """Run a job to its end."""
    executor.execute(command(type, do=do), FIRST)
    for _ in range(10):
        if outbox.events[-1].status.terminal:
            break
        executor.execute(outbox.events[-1], FIRST)
    return outbox.events[-1]


@pytest.mark.parametrize(
    "do", ["return", "raise", "input", "reject", "exit", "cancel", "timeout", "wrong", "number", "deep"]
)
@pytest.mark.parametrize("type", ["sync", "retried", "async"])
def test_a_job_ends_as_a_processor_would_have_it(executor, outbox, type, do):
    """Status, result, kind of error, and how often the handler was called."""
    ended = processed(executor, outbox, type, do)
    outcome = run_job(HANDLERS[type], {"do": do})
    assert ended.status == outcome.status
    assert ended.job.result == outcome.result
    assert (ended.job.error and ended.job.error.kind) == (outcome.error and outcome.error.kind)
    assert [one.number for one in ended.job.attempts] == list(range(1, len(outcome.attempts) + 1))


@pytest.mark.parametrize("do", ["write", "write-both", "write-half"])
def test_files_count_as_a_processor_would_have_them(executor, outbox, do):
    """A result that is a file, and one that is returned too."""
    ended = processed(executor, outbox, "files", do)
    outcome = run_job(files_handler, {"do": do})
    assert (ended.status, ended.job.error and ended.job.error.kind) == (
        outcome.status,
        outcome.error and outcome.error.kind,
    )


def test_params_that_do_not_fit_fail_as_a_processor_would_have_it(executor, outbox):
    """With the same words."""
    ended = processed(executor, outbox, "sync", 5)
    outcome = run_job(sync_handler, {"do": 5})
    assert (ended.job.error.kind, ended.job.error.message) == (outcome.error.kind, outcome.error.message)
