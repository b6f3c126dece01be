"""Loading of handler modules, and the errors for modules that cannot be used."""

import pytest

from milepost_processor.core.handlers import load_handlers
from milepost_processor.errors import HandlersUnusable

GOOD = """
from milepost import Run, job
from pydantic import BaseModel
class P(BaseModel): pass
@job("{name}", queue="{queue}")
def handler(params: P, run: Run) -> None: ...
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write an importable module."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def test_all_handlers_of_the_named_modules_are_loaded(module):
    """A processor serves the modules of MILEPOST_HANDLERS."""
    found = load_handlers(
        [module("mine_a", GOOD.format(name="a", queue="x")), module("mine_b", GOOD.format(name="b", queue="y"))]
    )
    assert (["a", "b"], ("x", "y")) == (sorted(found.definitions), found.queues)


def test_only_handlers_of_the_named_queues_are_loaded(module):
    """A queue can have processors of its own."""
    modules = [module("mine_c", GOOD.format(name="c", queue="x")), module("mine_d", GOOD.format(name="d", queue="y"))]
    assert ["d"] == list(load_handlers(modules, ["y"]).definitions)


@pytest.mark.parametrize(
    "text, expected_text",
    [
        ("import not_there_at_all", "not_there_at_all"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("def f(:", "SyntaxError"),
        ("x = 1", "@job"),
        ("from milepost import job\n@job('Bad Name')\ndef f(params, run): ...", "lower-case"),
    ],
)
def test_an_unusable_module_is_reported_with_the_reason(module, text, expected_text):
    """The error names the module."""
    name = module(f"broken_{abs(hash(text))}", text)
    with pytest.raises(HandlersUnusable, match=name) as caught:
        load_handlers([name])
    assert expected_text in str(caught.value)


def test_a_missing_module_is_reported():
    """MILEPOST_HANDLERS may have a typo."""
    with pytest.raises(HandlersUnusable, match=r"no\.such\.module"):
        load_handlers(["no.such.module"])


def test_two_handlers_of_one_type_are_refused(module):
    """Which of them ran would be undefined."""
    names = [
        module("twin_1", GOOD.format(name="same", queue="x")),
        module("twin_2", GOOD.format(name="same", queue="x")),
    ]
    with pytest.raises(HandlersUnusable, match=r"twin_1.*twin_2.*same"):
        load_handlers(names)


def test_a_queue_without_a_handler_is_refused(module):
    """A processor would wait forever at a misspelt queue."""
    with pytest.raises(HandlersUnusable, match=r"cpuu.*cpu"):
        load_handlers([module("mine_e", GOOD.format(name="e", queue="cpu"))], ["cpuu"])
