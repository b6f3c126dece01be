"""The JSON form of results, partial results and saved state."""

import math
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_serializer

from milepost import Run, job
from milepost.json_form import _unchanged, to_json
from milepost.testing import run_job

NAN = math.nan


class Measured(BaseModel):
    mean: float = NAN


@dataclass
class Series:
    of: list[Measured]


class NumberLike(float):
    """As those of numpy are."""


class Limit(Enum):
    NONE = math.inf


class NanInJson(BaseModel):
    n: int = 1

    @field_serializer("n", when_used="json")
    def _nan(self, n) -> float:
        return NAN


@pytest.mark.parametrize(
    "value, place",
    [
        (NAN, "it is nan"),
        (math.inf, "it is inf"),
        (NumberLike("nan"), "it is nan"),
        (Decimal("NaN"), "it is NaN"),
        (Decimal("sNaN"), "it is sNaN"),
        (Decimal("-Infinity"), "it is -Infinity"),
        ({"a/b": [1, {"x~": -math.inf}]}, "/a~1b/1/x~0 is -inf"),
        ((1, NAN), "/1 is nan"),
        (deque([NAN]), "/0 is nan"),
        ({"of": {NAN}}, "/of/0 is nan"),
        (Measured(), "/mean is nan"),
        (Series([Measured(mean=1), Measured()]), "/of/1/mean is nan"),
        (NanInJson(), "/n is nan"),
        ({1: "lost", "1": "kept"}, "it has the keys 1 and '1'"),
        ({"at": {True: 1, "true": 2}}, "/at has the keys True and 'true'"),
        ((n for n in [1]), "it is a generator"),
        ({"rows": map(str, [1])}, "/rows is a generator or another iterator"),
        ({"limit": Limit.NONE}, "/limit is inf"),
        ("\ud800", "surrogates not allowed"),
        ([10**5000], "number out of range"),
        (object(), "object"),
        ({object(): 1}, "the key <object"),
    ],
)
def test_what_json_would_change_or_lose_is_refused_with_its_place(value, place):
    """A reader would get null against the announced schema, or a value less."""
    with pytest.raises(ValueError, match=r"^a value has no JSON form: ") as caught:
        to_json(value, "a value")
    assert place in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_a_json_value_is_its_own_json_form(value):
    """Nothing that JSON has is refused."""
    assert value == to_json(value, "a value")[1]


@given(JSON)
def test_a_value_that_is_json_already_takes_a_short_cut_to_the_same_form(value):
    """A handler may save a large state often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("milepost.json_form._unchanged", lambda value: None)
        same = to_json(value, "a value")
    assert same == _unchanged(value)


@pytest.mark.parametrize(
    "value", [(1,), {1: 2}, {"a": {True: 1}}, [NAN], Measured(), [NumberLike(1)], iter([1]), [b"a"], {1}, 1 + 2j]
)
def test_no_other_value_takes_the_short_cut(value):
    """JSON changes it, or code of its author might run."""
    assert _unchanged(value) is None


def test_a_key_that_only_looks_different_is_taken():
    """Numbers as keys become texts."""
    assert {"1": 2, "2": 3} == to_json({1: 2, 2: 3}, "a value")[1]


class Asked(BaseModel):
    error: type[BaseException]
    n: int = 1

    @field_serializer("n")
    def _fail(self, n):
        raise self.error("the database is away")


@pytest.mark.parametrize("error", [OSError, SystemExit, KeyError])
def test_what_a_serializer_raises_is_raised(error):
    """It is not the value that is wrong."""
    with pytest.raises(error, match="away"):
        to_json(Asked(error=error), "a value")


def test_a_serializer_that_raises_a_value_error_has_no_json_form():
    """As in a validator, it says that the value is wrong."""
    with pytest.raises(ValueError, match=r"no JSON form.*away"):
        to_json(Asked(error=ValueError), "a value")


class Nothing(BaseModel):
    """No params."""


@pytest.mark.parametrize(
    "report, kind",
    [
        (lambda run: {"x": [NAN]}, "invalid-result"),
        (lambda run: run.emit({"x": [NAN]}), "exception"),
        (lambda run: run.save({"x": [NAN]}), "exception"),
    ],
)
def test_results_items_and_states_follow_one_rule(report, kind):
    """The job fails, and its error names the place."""

    @job("measure")
    def measure(params: Nothing, run: Run):
        return report(run)

    outcome = run_job(measure, {})
    assert ("failed", kind) == (outcome.status, outcome.error.kind)
    assert "/x/0 is nan" in outcome.error.message


def test_the_result_of_a_typed_handler_is_checked_too():
    """Its announced schema says number."""

    @job("mean")
    def mean(params: Nothing, run: Run) -> float:
        return NAN

    assert "invalid-result" == run_job(mean, {}).error.kind


def test_the_result_of_a_generator_function_behind_a_decorator_is_refused():
    """Its code would run while the result is encoded."""

    def rows(params, run):
        raise AssertionError("not called")
        yield 1

    @job("rows")
    def handler(params: Nothing, run: Run):
        return rows(params, run)

    outcome = run_job(handler, {})
    assert "invalid-result" == outcome.error.kind
    assert "return a list" in outcome.error.message


@pytest.mark.parametrize(
    "through", [lambda inner: [inner], lambda inner: {"a": inner, "b": inner}], ids=["list", "dict"]
)
def test_what_contains_itself_is_refused_at_once(through):
    """It would be walked through for ever, in a branching one through more and more of it."""
    cyclic = [None]
    cyclic[0] = through(cyclic)
    with pytest.raises(ValueError, match="or contains itself"):
        to_json(cyclic, "the result")
