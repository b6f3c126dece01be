"""Which shapes of handlers `@job` takes, and what it says of the others."""

import functools
import types
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from milepost import Run, job
from milepost.errors import InvalidDefinition
from milepost.testing import run_job

if TYPE_CHECKING:
    from elsewhere import Missing


class Params(BaseModel, frozen=True):
    n: int = 1


def plain(params: Params, run: Run) -> int:
    return params.n


async def coroutine(params: Params, run: Run) -> int:
    return params.n


def returns_awaitable(params: Params, run: Run) -> int:
    return coroutine(params, run)


def more(params: Params, run: Run, factor: int = 1) -> int:
    return params.n * factor


def bound_before(n: int, params: Params, run: Run) -> int:
    return n


class WithCall:
    def __call__(self, params: Params, run: Run) -> int:
        return params.n


class Model(BaseModel):
    def __call__(self, params: Params, run: Run) -> int:
        return params.n


def wrapped(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@pytest.mark.parametrize(
    "handler",
    [
        plain,
        coroutine,
        returns_awaitable,
        more,
        wrapped(plain),
        wrapped(coroutine),
        wrapped(wrapped(coroutine)),
        functools.partial(plain),
        functools.partial(more, factor=1),
        functools.partial(bound_before, 1),
        functools.lru_cache(plain),
        WithCall(),
        Model(),
    ],
)
def test_functions_and_what_is_called_like_one_are_handlers(handler):
    """Sync and async, wrapped, partial, and objects that can be called."""
    outcome = run_job(job("shape")(handler), {})
    assert ("succeeded", 1) == (outcome.status, outcome.result)


def no_run(params: Params) -> None: ...
def too_many(params: Params, run: Run, factor: int) -> None: ...
def by_keyword(*, params: Params, run: Run) -> None: ...
def other_names(p: Params, run: Run) -> None: ...
def no_model(params: dict, run: Run) -> None: ...
def no_annotation(params, run: Run) -> None: ...
def unknown_params(params: "Missing", run: Run) -> None: ...
def unknown_result(params: Params, run: Run) -> "Missing": ...
def no_json(params: Params, run: Run) -> types.ModuleType: ...
def generator(params: Params, run: Run):
    yield 1


async def async_generator(params: Params, run: Run):
    yield 1


def lazy(params: Params, run: Run) -> dict[str, Iterable[int]]: ...
def iterator(params: Params, run: Run) -> Iterator[int]: ...
def awaitable(params: Params, run: Run) -> Awaitable[int]: ...
def async_iterator(params: Params, run: Run) -> AsyncIterator[int]: ...


class GeneratorCall:
    def __call__(self, params: Params, run: Run):
        yield 1


class Slotted:
    __slots__ = ()

    def __call__(self, params: Params, run: Run) -> None: ...


class Service:
    def handle(self, params: Params, run: Run) -> None: ...

    @staticmethod
    def static(params: Params, run: Run) -> None: ...


def forgets_wraps(function):
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    "handler, name, remedy",
    [
        (no_run, "no_run", r"must take \(params, run\), not \(params\)"),
        (too_many, "too_many", "must take"),
        (by_keyword, "by_keyword", r"not \(\*, params, run\)"),
        (other_names, "other_names", "must take"),
        (forgets_wraps(plain), "wrapper", "functools.wraps"),
        (Service.handle, "Service.handle", r"not \(self, params, run\)"),
        (print, "print", "must take"),
        (no_model, "no_model", "annotated with a pydantic model"),
        (no_annotation, "no_annotation", "annotated with a pydantic model"),
        (lambda params, run: 1, "<lambda>", "annotated with a pydantic model"),
        (unknown_params, "unknown_params", "params.*'Missing' is not defined.*TYPE_CHECKING"),
        (unknown_result, "unknown_result", "result.*'Missing' is not defined.*TYPE_CHECKING"),
        (no_json, "no_json", "no JSON form"),
        (iterator, "iterator", "no JSON form"),
        (awaitable, "awaitable", "no JSON form"),
        (async_iterator, "async_iterator", "no JSON form"),
        (lazy, "lazy", "annotate a list"),
        (generator, "generator", "return a list"),
        (functools.partial(generator), "generator", "return a list"),
        (async_generator, "async_generator", "return a list"),
        (GeneratorCall(), "GeneratorCall", "return a list"),
        (Params, "Params", "is a class"),
        (Service().handle, "Service.handle", "is a method"),
        (Service.__dict__["static"], "Service.static", "is a method"),
        (Slotted(), "Slotted", "decorate a function"),
        (None, "None", "not callable"),
    ],
)
def test_any_other_shape_is_refused_with_the_name_and_the_remedy(handler, name, remedy):
    """It does not wait for the first job to fail."""
    with pytest.raises(InvalidDefinition, match=rf"{name}.* of the job type 'shape'") as caught:
        job("shape")(handler)
    assert caught.match(remedy)
    assert "\n" not in str(caught.value)


def test_the_annotation_of_run_is_not_read():
    """Linters move an import that only annotations need under `if TYPE_CHECKING:`."""

    def handler(params: Params, run: "Missing") -> None: ...

    assert "succeeded" == run_job(job("shape")(handler), {}).status
