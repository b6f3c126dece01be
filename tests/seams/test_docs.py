"""The documentation agrees with the code."""

import ast
import importlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from milepost.testing import run_job
from milepost_contracts.http.problems import DOCS, ProblemType
from milepost_gateway.settings import GatewaySettings
from milepost_processor.settings import ProcessorSettings
from milepost_service.senders import SenderSettings
from milepost_service.settings import PREFIX
from milepost_tracker.settings import TrackerSettings

ROOT = Path(__file__).parent.parent.parent
REFERENCE = ROOT / "docs" / "reference"


def headings(path):
    return set(re.findall(r"^## (.+)$", path.read_text(), flags=re.MULTILINE))


def test_every_problem_type_is_documented():
    """At the address of its `type`; and no other problem is documented."""
    assert DOCS.endswith("/reference/problems")
    assert {kind.slug for kind in ProblemType} == headings(REFERENCE / "problems.md")


@pytest.mark.parametrize(
    "settings", [GatewaySettings, ProcessorSettings, TrackerSettings], ids=lambda one: one.__name__
)
def test_every_setting_is_documented(settings):
    """With the name of its variable."""
    text = (REFERENCE / "settings.md").read_text()
    assert set() == {name for name in settings.model_fields if f"`{PREFIX}{name.upper()}`" not in text}
    shared = SenderSettings.model_fields.keys()
    assert len(settings.model_fields.keys() - shared) < 25, "beside what all services share"


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))],
    ids=lambda page: page.name,
)
def test_every_relative_link_has_a_target(page):
    """In the README, CONTRIBUTING and all pages."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [] == [link for link in links if not (page.parent / link).exists()]


PAGES = sorted(page for page in ROOT.glob("docs/**/*.md") if "decisions" not in page.parts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_snippet_imports_existing_names(page):
    """The names that it imports from Milepost exist. Snippets of the tutorial and the examples are run as well."""
    for snippet in re.findall(r"```python[^\n]*\n(?!--8<--)(.+?)```", page.read_text(), flags=re.DOTALL):
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("milepost"):
                module = importlib.import_module(node.module)
                assert [] == [one.name for one in node.names if not hasattr(module, one.name)]


def test_the_site_is_built_without_a_warning(tmp_path):
    """Links, navigation, included files and names in the reference are all complete."""
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert 0 == built.returncode, built.stderr
    assert "submit_many" in (tmp_path / "site" / "reference" / "sdk" / "index.html").read_text()
    pages = [page.read_text() for page in (tmp_path / "site").rglob("*.html")]
    assert not any("--8" in page for page in pages), "an included file is missing"
    assert any("billing.milepost" in page for page in pages)


def test_the_command_line_reference_is_up_to_date():
    """`make contracts` regenerates it."""
    written = runpy.run_path(str(ROOT / "tools" / "contracts"))["command_line"]()
    assert written == (REFERENCE / "cli.md").read_text(), "run 'make contracts'"


def test_the_readmes_handler_works_as_written():
    """The snippet is run, with the test that the README shows."""
    (snippet,) = re.findall(r"```python\n(# my_jobs.py.+?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    scope = {"__name__": "my_jobs"}
    exec(compile(snippet, "my_jobs.py", "exec"), scope)  # noqa: S102 - our own README
    assert {"letters": 1} == run_job(scope["count_letters"], {"text": "a1"}).result
