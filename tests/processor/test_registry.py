"""Finding handlers, and saying what is wrong with them."""

import pytest

from milepost_processor.errors import HandlersUnusable
from milepost_processor.registry import find_handlers

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


def test_modules_are_named_by_a_setting(module):
    """One processor runs what it is told to."""
    found = find_handlers(
        [module("mine_a", GOOD.format(name="a", queue="x")), module("mine_b", GOOD.format(name="b", queue="y"))]
    )
    assert (["a", "b"], ("x", "y")) == (sorted(found.definitions), found.queues)


def test_queues_narrow_what_is_served(module):
    """A heavy queue can have processors of its own."""
    modules = [module("mine_c", GOOD.format(name="c", queue="x")), module("mine_d", GOOD.format(name="d", queue="y"))]
    assert ["d"] == list(find_handlers(modules, ["y"]).definitions)


@pytest.mark.parametrize(
    "text, says",
    [
        ("import not_there_at_all", "not_there_at_all"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("def f(:", "SyntaxError"),
        ("x = 1", "@job"),
        ("from milepost import job\n@job('Bad Name')\ndef f(params, run): ...", "lower-case"),
    ],
)
def test_a_module_that_can_not_be_used_is_named_with_the_reason(module, text, says):
    """Which module, and why, in one sentence."""
    name = module(f"broken_{abs(hash(text))}", text)
    with pytest.raises(HandlersUnusable, match=name) as caught:
        find_handlers([name])
    assert says in str(caught.value)


def test_a_module_that_is_not_there_is_named():
    """A typo in MILEPOST_HANDLERS."""
    with pytest.raises(HandlersUnusable, match=r"no\.such\.module"):
        find_handlers(["no.such.module"])


def test_two_modules_with_one_type_contradict_each_other(module):
    """Which of them would run would be chance."""
    names = [
        module("twin_1", GOOD.format(name="same", queue="x")),
        module("twin_2", GOOD.format(name="same", queue="x")),
    ]
    with pytest.raises(HandlersUnusable, match=r"twin_1.*twin_2.*same"):
        find_handlers(names)


def test_a_queue_that_no_handler_uses_is_a_mistake(module):
    """A processor that waits for ever at a misspelt queue helps nobody."""
    with pytest.raises(HandlersUnusable, match=r"cpuu.*cpu"):
        find_handlers([module("mine_e", GOOD.format(name="e", queue="cpu"))], ["cpuu"])
