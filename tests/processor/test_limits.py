"""RabbitMQ's consumer timeout and the types' own limits must agree, or jobs are taken away while they run."""

from datetime import timedelta
from types import ModuleType

import pytest
from pydantic import BaseModel

from milepost import Run, definitions_in, job
from milepost_processor.limits import check_consumer_timeout, needed_timeout
from milepost_processor.registry import Registry

BESIDE = timedelta(minutes=1)


class Params(BaseModel):
    pass


@job("short", queue="a", max_runtime=timedelta(minutes=5))
def short(params: Params, run: Run) -> None:
    """Five minutes at most."""


@job("long", queue="b", max_runtime=timedelta(hours=2))
def long(params: Params, run: Run) -> None:
    """Two hours at most."""


def registry(*handlers):
    module = ModuleType("handlers")
    module.__dict__.update({handler.__name__: handler for handler in handlers})
    return Registry({definition.type: definition for definition in definitions_in(module)})


def test_a_delivery_may_wait_behind_one_of_every_other_queue():
    """A processor prefetches from each of its queues."""
    assert timedelta(minutes=11) == needed_timeout(registry(short), BESIDE)
    assert timedelta(hours=8, minutes=1) == needed_timeout(registry(short, long), BESIDE)


@pytest.mark.parametrize(
    "version, said, refused",
    [
        ("3.10.8", timedelta(minutes=30), True),
        ("3.11.0", timedelta(hours=4), True),
        ("3.10.8", timedelta(hours=5), False),
        ("3.12.0", timedelta(minutes=30), False),
        ("4.0.5", timedelta(minutes=30), False),
    ],
)
def test_a_timeout_shorter_than_a_job_is_refused_where_the_broker_does_not_listen(version, said, refused):
    """Since 3.12 it takes the time from its consumer; before, the operator must have set it."""
    problem = check_consumer_timeout(registry(long), BESIDE, said=said, version=version)
    assert refused == (problem is not None)
    if problem:
        assert "'long'" in problem
        assert "MILEPOST_CONSUMER_TIMEOUT" in problem
        assert version in problem
