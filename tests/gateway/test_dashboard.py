"""The dashboard's page and files; what it does is tried in a real browser, by 'make foreign'."""

import re
from pathlib import Path

import pytest

import milepost_gateway
from milepost_contracts.problems import MEDIA_TYPE

FOLDER = Path(milepost_gateway.__file__).parent / "dashboard"
MODULES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.js"))


async def test_the_page_is_there_and_asks_nobody_else(http):
    """Whatever is entered in it stays between it and its gateway."""
    answer = await http.get("/")
    assert (200, True) == (answer.status_code, answer.headers["content-type"].startswith("text/html"))
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|\*|unsafe", policy)
    assert [] == [
        name for name in re.findall(r'(?:src|href)="(?!#)([^"]+)"', answer.text) if not name.startswith("dashboard/")
    ]
    for name in re.findall(r'(?:src|href)="(dashboard/[^"]+)"', answer.text):
        assert 200 == (await http.get(f"/{name}")).status_code, name


@pytest.mark.parametrize("name", MODULES)
async def test_every_module_finds_what_it_imports(http, name):
    """There is no build step that would notice."""
    answer = await http.get(f"/dashboard/{name}")
    assert (200, True) == (answer.status_code, "javascript" in answer.headers["content-type"])
    for imported in re.findall(r"""from\s*"([^"]+)";?""", answer.text):
        assert imported.startswith("."), imported
        assert (FOLDER / name).parent.joinpath(imported).is_file(), imported


async def test_what_is_not_there_is_a_problem_as_everywhere(http):
    """Nor is a path that leads out of the folder."""
    for path in ("/dashboard/nothing.js", "/dashboard/../settings.py", "/dashboard/%2e%2e/settings.py", "/nothing"):
        answer = await http.get(path)
        assert (404, MEDIA_TYPE) == (answer.status_code, answer.headers["content-type"]), path
    assert 405 == (await http.post("/")).status_code


async def test_a_browser_that_has_a_file_is_not_sent_it_again(http):
    """But it asks, for a new release has new ones."""
    answer = await http.get("/dashboard/main.js")
    assert "no-cache" == answer.headers["cache-control"]
    assert 304 == (await http.get("/dashboard/main.js", headers={"If-None-Match": answer.headers["etag"]})).status_code
