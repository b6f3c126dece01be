"""The dashboard's page and files; `make foreign` tests its behaviour in a real browser."""

import re
from pathlib import Path

import httpx
import pytest

import milepost_gateway
from milepost_contracts.http.problems import MEDIA_TYPE
from milepost_gateway.bootstrap import build_app

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


async def test_the_docs_load_only_files_of_this_gateway(http):
    """They are shown without the Internet; addresses are relative, for a gateway behind a prefix."""
    answer = await http.get("/docs")
    assert (200, True) == (answer.status_code, answer.headers["content-type"].startswith("text/html"))
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert not re.search(r"https?:|\*|unsafe-eval", policy)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert {"docs/assets/swagger-ui-bundle.js", "docs/assets/swagger-ui.css", "openapi.json"} <= set(loaded)
    for name in loaded:
        assert 200 == (await http.get(f"/{name}")).status_code, name
    assert 404 == (await http.get("/redoc")).status_code


async def test_the_docs_can_be_switched_off():
    """With `MILEPOST_DOCS=false`; generators of clients still get the OpenAPI document."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build_app(docs=False)), base_url="http://x") as http:
        for path in ("/docs", "/docs/assets/swagger-ui.css", "/redoc", "/docs/oauth2-redirect"):
            assert (404, MEDIA_TYPE) == ((answer := await http.get(path)).status_code, answer.headers["content-type"])
        assert 200 == (await http.get("/openapi.json")).status_code


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
