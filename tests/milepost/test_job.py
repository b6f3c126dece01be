"""The @job decorator."""

import types

import pytest
from pydantic import BaseModel

from milepost import Run, definitions_in, job
from milepost.errors import InvalidDefinition


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


@job("wait")
async def wait(params: Params, run: Run) -> None:
    pass


def defined(*handlers):
    module = types.ModuleType("handlers")
    for handler in handlers:
        setattr(module, handler.__name__, handler)
    return definitions_in(module)


def test_a_handler_stays_an_ordinary_function():
    """It can be called and tested as it is written."""
    assert Doubled(n=6) == double(Params(n=3), Run(job_id="1"))


def test_what_is_announced_comes_from_the_function():
    """Nothing is written twice: schemas from annotations, title and description from the docstring."""
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


def test_sync_and_async_handlers_are_told_apart():
    """The processor runs each as it needs."""
    assert [False, True] == [definition.is_async for definition in defined(double, wait)]


def test_a_module_lists_its_handlers_once_each():
    """An alias is no second job."""
    module = types.ModuleType("handlers")
    module.one = module.other = double
    assert ["double"] == [definition.type for definition in definitions_in(module)]


@pytest.mark.parametrize("name", ["Double", "double_it", "", "a.b", "-x", "a--b", "a b"])
def test_a_name_that_would_not_fit_a_routing_key_is_refused(name):
    """Type and queue stand in routing keys, Redis keys and URLs."""
    with pytest.raises(InvalidDefinition, match="lower-case"):
        job(name)
    with pytest.raises(InvalidDefinition, match="lower-case"):
        job("fine", queue=name)


def no_run(params: Params) -> None: ...
def other_names(p: Params, run: Run) -> None: ...
def no_model(params: dict, run: Run) -> None: ...
def no_annotation(params, run: Run) -> None: ...
def no_json(params: Params, run: Run) -> types.ModuleType: ...


@pytest.mark.parametrize("function", [no_run, other_names, no_model, no_annotation, no_json])
def test_a_signature_that_can_not_work_is_refused_at_import(function):
    """Better now than at the first job."""
    with pytest.raises(InvalidDefinition):
        job("x")(function)
