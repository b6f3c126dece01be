"""The dashboard's page and files; `make foreign` tests its behaviour in a real browser."""

import re
from pathlib import Path

import pytest

import milepost_gateway
from milepost_contracts.http.problems import MEDIA_TYPE

FOLDER = Path(milepost_gateway.__file__).parent / "dashboard"
MODULES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.js"))


async def test_the_page_loads_only_its_own_files(http):
    """The content security policy allows no other origin."""
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
async def test_every_imported_module_exists(http, name):
    """There is no build step that would find a missing one."""
    answer = await http.get(f"/dashboard/{name}")
    assert (200, True) == (answer.status_code, "javascript" in answer.headers["content-type"])
    for imported in re.findall(r"""from\s*"([^"]+)";?""", answer.text):
        assert imported.startswith("."), imported
        assert (FOLDER / name).parent.joinpath(imported).is_file(), imported


async def test_a_missing_file_is_a_problem(http):
    """So is a path that leads out of the folder."""
    for path in ("/dashboard/nothing.js", "/dashboard/../settings.py", "/dashboard/%2e%2e/settings.py", "/nothing"):
        answer = await http.get(path)
        assert (404, MEDIA_TYPE) == (answer.status_code, answer.headers["content-type"]), path
    assert 405 == (await http.post("/")).status_code


async def test_files_are_revalidated_by_etag(http):
    """`no-cache`, so that a browser loads the files of a new release."""
    answer = await http.get("/dashboard/main.js")
    assert "no-cache" == answer.headers["cache-control"]
    assert 304 == (await http.get("/dashboard/main.js", headers={"If-None-Match": answer.headers["etag"]})).status_code
