"""The `@job` decorator."""

import functools
import types
from dataclasses import dataclass
from datetime import timedelta
from unittest.mock import Mock

import pytest
from pydantic import BaseModel

from milepost import RetryLater, Run, definitions_in, job
from milepost.errors import InvalidDefinition
from milepost.job import definition_of


class Params(BaseModel):
    n: int = 1


class Doubled(BaseModel):
    n: int


@job("double", queue="cpu")
def double(params: Params, run: Run) -> Doubled:
    """Double a number.

    At length.
    """
    return Doubled(n=2 * params.n)


def defined(*handlers):
    module = types.ModuleType("handlers")
    for handler in handlers:
        setattr(module, handler.__name__, handler)
    return definitions_in(module)


def test_a_handler_stays_an_ordinary_function():
    """It can be called and tested as written."""
    assert Doubled(n=6) == double(Params(n=3), Run(job_id="1"))


def test_the_announcement_is_derived_from_the_function():
    """Schemas come from the annotations, title and description from the docstring."""
    (definition,) = defined(double)
    announced = definition.announcement()
    assert ("double", "cpu", "Double a number", "At length.") == (
        announced.type,
        announced.queue,
        announced.title,
        announced.description,
    )
    assert "integer" == announced.params_schema["properties"]["n"]["type"]
    assert ["n"] == announced.result_schema["required"]


def test_a_module_lists_its_handlers_once_each():
    """An alias is not a second job type."""
    module = types.ModuleType("handlers")
    module.one = module.other = double
    assert ["double"] == [definition.type for definition in definitions_in(module)]


@pytest.mark.parametrize("name", ["Double", "double_it", "", "a.b", "-x", "a--b", "a b", None, double])
def test_a_name_that_is_invalid_in_a_routing_key_is_refused(name):
    """Type and queue are parts of routing keys, Redis keys and URLs."""
    with pytest.raises(InvalidDefinition, match="lower-case"):
        job(name)
    with pytest.raises(InvalidDefinition, match="lower-case"):
        job("fine", queue=name)


def above(decorated):
    @functools.wraps(decorated)
    def wrapper(*args):
        return decorated(*args)

    return wrapper


def test_a_decorator_above_job_is_refused():
    """It would not run: `@job` registers what it decorates."""
    with pytest.raises(InvalidDefinition, match=r"the handler double.*put @job above it"):
        defined(above(double))
    with pytest.raises(InvalidDefinition, match=r"the handler double.*put @job above it"):
        definition_of(above(double))


@dataclass
class WithFields:
    factor: int

    def __call__(self, params: Params, run: Run) -> int:
        return self.factor * params.n


def test_a_handler_need_not_be_hashable():
    """An object that compares by its fields is not."""
    triple = job("triple")(WithFields(3))
    module = types.ModuleType("handlers")
    module.triple = triple
    assert ["triple"] == [definition.type for definition in definitions_in(module)]


def test_objects_that_answer_to_every_name_are_no_handlers():
    """A module may have a mock or a proxy in it."""
    module = types.ModuleType("handlers")
    module.mock, module.double = Mock(), double
    assert ["double"] == [definition.type for definition in definitions_in(module)]


def test_limits_are_announced():
    """By default a job is not retried, and may run for ten minutes, which is below RabbitMQ's own timeout."""

    @job("limited", retries=3, max_runtime=timedelta(hours=2))
    def limited(params: Params, run: Run) -> None: ...

    (plain, limits) = (definition.announcement() for definition in defined(double, limited))
    assert (0, timedelta(minutes=10)) == (plain.retries, plain.max_runtime)
    assert (3, timedelta(hours=2)) == (limits.retries, limits.max_runtime)


@pytest.mark.parametrize(
    "limits",
    [
        {"retries": -1},
        {"retries": 10_000},
        {"backoff": timedelta(0)},
        {"backoff": timedelta(hours=2)},
        {"max_runtime": timedelta(0)},
        {"max_runtime": timedelta(days=31)},
        {"max_runtime": 60},
        {"retries": "3"},
    ],
)
def test_an_invalid_limit_is_refused_at_import(limits):
    """The error names it."""
    with pytest.raises(InvalidDefinition, match=next(iter(limits))):
        job("x", **limits)


@pytest.mark.parametrize("after", [timedelta(0), timedelta(seconds=-1), timedelta(days=91)])
def test_retry_later_refuses_a_delay_out_of_bounds(after):
    """The longest delay is the longest that the delay levels can hold."""
    with pytest.raises(ValueError, match="after must be more than 0"):
        RetryLater(after=after)
