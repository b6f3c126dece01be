"""The consumer timeout must be longer than the jobs, or RabbitMQ requeues jobs while they run."""

from datetime import timedelta
from types import ModuleType

import pytest
from pydantic import BaseModel

from milepost import Run, definitions_in, job
from milepost_processor.core.consumer_timeout import check_consumer_timeout, needed_timeout
from milepost_processor.core.handlers import Handlers

OVERHEAD = timedelta(minutes=1)


class Params(BaseModel):
    pass


@job("short", queue="a", max_runtime=timedelta(minutes=5))
def short(params: Params, run: Run) -> None:
    """Five minutes at most."""


@job("long", queue="b", max_runtime=timedelta(hours=2))
def long(params: Params, run: Run) -> None:
    """Two hours at most."""


def handlers(*handlers):
    module = ModuleType("handlers")
    module.__dict__.update({handler.__name__: handler for handler in handlers})
    return Handlers({definition.type: definition for definition in definitions_in(module)})


def test_the_consumer_timeout_covers_the_longest_job_and_does_not_grow_with_the_queues():
    """A processor holds nothing that it can't start within a moment, from however many queues."""
    assert timedelta(minutes=7) == needed_timeout(handlers(short), OVERHEAD)
    assert timedelta(hours=2, minutes=2) == needed_timeout(handlers(short, long), OVERHEAD)


@pytest.mark.parametrize("configured, refused", [(timedelta(minutes=30), True), (timedelta(hours=3), False)])
def test_a_consumer_timeout_shorter_than_a_job_is_refused(configured, refused):
    """With every version of RabbitMQ: the operator has to configure it at the broker."""
    problem = check_consumer_timeout(handlers(long), OVERHEAD, configured=configured)
    assert refused == (problem is not None)
    if problem:
        assert "'long'" in problem
        assert "consumer_timeout = 7320000 (milliseconds)" in problem
        assert "MILEPOST_CONSUMER_TIMEOUT=7320 (seconds)" in problem
