"""Loading of handler modules, and the errors for modules that cannot be used."""

import re
from textwrap import indent

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
    with pytest.raises(HandlersUnusable, match=r"twin_1\.py:5 and .*twin_2\.py:5 have the same job type 'same'"):
        load_handlers(names)


def test_two_handlers_of_one_type_in_one_module_are_refused(module):
    """They have different names, so both are in the module."""
    text = GOOD.format(name="same", queue="x")
    name = module("twins", text + text.replace("def handler", "def other"))
    with pytest.raises(HandlersUnusable, match=r"twins\.py:5 and .*twins\.py:11 have the same job type 'same'"):
        load_handlers([name])


HEAD = """from __future__ import annotations
from typing import TYPE_CHECKING
from pydantic import BaseModel
from milepost import job
if TYPE_CHECKING:
    from milepost import Run
    from elsewhere import Missing
class P(BaseModel): pass
def decorator(function):
    return lambda *args: function(*args)
"""
HANDLER = """@job("{}")
def handler(params: P, run: Run) -> None: ...
"""


@pytest.mark.parametrize(
    "text",
    [
        HANDLER.format("lost") + HANDLER.format("kept"),
        HANDLER.format("lost") + HANDLER.format("lost"),
        '@job("kept")\n' + HANDLER.format("lost"),
        "@decorator\n" + HANDLER.format("lost"),
        "class Jobs:\n    @staticmethod\n" + indent(HANDLER.format("lost"), "    "),
        HANDLER.format("lost") + "del handler\n",
        "def inner():\n" + indent(HANDLER.format("lost"), "    ") + "inner()\n",
    ],
)
def test_a_handler_that_its_module_does_not_have_any_more_is_refused(module, text):
    """Its jobs would wait forever, and nothing would say why. The error has its line."""
    name = module(f"lost_{abs(hash(text))}", HEAD + text)
    line = next(at for at, line in enumerate((HEAD + text).splitlines(), start=1) if "lost" in line)
    with pytest.raises(HandlersUnusable, match=rf"the job type 'lost' .*{name}.py:\d+\) can't be found") as caught:
        load_handlers([name])
    assert abs(line - int(re.search(r"py:(\d+)", str(caught.value))[1])) <= 1, "the first decorator's line"


def test_an_import_for_type_checkers_is_enough_for_run(module):
    """Linters move it there."""
    name = module("typed", HEAD + HANDLER.format("typed"))
    assert ["typed"] == list(load_handlers([name]).definitions)


def test_an_annotation_that_cannot_be_read_is_reported_with_the_line(module):
    """The author's own line, and not the one in which it is evaluated."""
    text = HEAD + '@job("typed")\ndef handler(params: Missing, run: Run) -> None: ...\n'
    with pytest.raises(HandlersUnusable, match=r"'Missing' is not defined.*TYPE_CHECKING.*typed_2\.py:1[12]\)"):
        load_handlers([module("typed_2", text)])


@pytest.mark.parametrize("params, result", [("Model", "None"), ("P", "Model"), ("P", "list[Model]")])
def test_a_field_that_is_imported_for_type_checkers_alone_is_reported_with_the_remedy(module, params, result):
    """What pydantic says of it does not mention the import."""
    text = HEAD + "class Model(BaseModel):\n    missing: Missing\n"
    text += f'@job("typed")\ndef handler(params: {params}, run: Run) -> {result}: ...\n'
    name = module(f"typed_{abs(hash(text))}", text)
    with pytest.raises(HandlersUnusable, match=rf"not fully defined.*TYPE_CHECKING.*{name}\.py:1[34]\)"):
        load_handlers([name])


def test_an_error_deep_in_an_import_is_reported_with_the_line_of_the_author(module):
    """A frame of a library says less."""
    name = module("deep_error", "import json\n\njson.loads('{')\n")
    with pytest.raises(HandlersUnusable, match=r"JSONDecodeError.*deep_error\.py:3\)"):
        load_handlers([name])


def test_a_partial_in_one_module_of_a_function_in_another_is_no_lost_handler(module):
    """Each is found where it was defined."""
    first = module("whole", GOOD.format(name="whole", queue="x"))
    text = "import functools, whole\nfrom milepost import job\npart = job('part')(functools.partial(whole.handler))\n"
    assert {"whole", "part"} == load_handlers([first, module("part", text)]).definitions.keys()


def test_a_queue_without_a_handler_is_refused(module):
    """A processor would wait forever at a misspelt queue."""
    with pytest.raises(HandlersUnusable, match=r"cpuu.*cpu"):
        load_handlers([module("mine_e", GOOD.format(name="e", queue="cpu"))], ["cpuu"])


UNANNOUNCEABLE = """
from collections.abc import Callable
from milepost import Run, job
from pydantic import BaseModel, Field
class Call(BaseModel):
    call: Callable[[int], int] = abs
class Odd(BaseModel):
    @classmethod
    def __get_pydantic_json_schema__(cls, *_): raise KeyError("odd")
class Fine(BaseModel): pass
class Large(BaseModel):
    x: int = Field(description="x" * 300_000)
@job("no-schema")
def handler(params: {params}, run: Run) -> None:
    {doc!r}
"""


@pytest.mark.parametrize(
    "params, doc, why",
    [
        ("Call", "A call.", "its params have no JSON Schema: .*CallableSchema"),
        ("Odd", "Odd.", "its params have no JSON Schema: 'odd'"),
        ("Large", "Large.", "the announcement is invalid: .* bytes are more than"),
        ("Fine", "x" * 300, "the announcement is invalid: title: .*200 characters"),
        ("Fine", "Fine.\n" + "x" * 5_000, "the announcement is invalid: description: .*4000 characters"),
    ],
)
def test_a_type_that_can_not_be_announced_is_refused_in_one_sentence(module, params, doc, why):
    """Before anything starts: without its announcement, nobody could submit it."""
    name = module(f"silent_{abs(hash((params, doc)))}", UNANNOUNCEABLE.format(params=params, doc=doc))
    with pytest.raises(HandlersUnusable, match=f"the job type 'no-schema' can't be announced, because {why}") as caught:
        load_handlers([name])
    assert "\n" not in str(caught.value)


def test_types_that_are_too_many_for_one_announcement_are_refused(module):
    """A processor announces all of its types in one message."""
    text = "from milepost import Run, job\nfrom pydantic import BaseModel, Field\n" + "".join(
        f"""class P{n}(BaseModel):
    x: int = Field(description="x" * 100_000)
@job("many-{n}")
def handler_{n}(params: P{n}, run: Run) -> None: ...
"""
        for n in range(3)
    )
    with pytest.raises(HandlersUnusable, match=r"the 3 job types can't be announced together: .* bytes"):
        load_handlers([module("many_types", text)])
