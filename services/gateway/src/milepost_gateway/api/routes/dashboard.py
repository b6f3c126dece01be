"""The dashboard at `/`, and the documentation of the HTTP interface at `/docs`: files that call only this gateway."""

from importlib import resources
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parents[2] / "dashboard"
HEADERS = {
    # So that an API key that a user enters can't leak to other scripts or hosts.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

# Swagger UI sets style attributes, and has its icons in its stylesheet.
DOCS_HEADERS = {
    **HEADERS,
    "Content-Security-Policy": HEADERS["Content-Security-Policy"]
    .replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    .replace("img-src 'self'", "img-src 'self' data:"),
}
SWAGGER_UI = resources.files("fastapi_offline") / "static"
"""Swagger UI, as this package brings it."""

router, docs_router = APIRouter(include_in_schema=False), APIRouter(include_in_schema=False)


@router.get("/")
def show_dashboard() -> Response:
    """Answer the page. It shows only what the user's API key may read."""
    return FileResponse(FOLDER / "index.html", headers=HEADERS)


@docs_router.get("/docs")
def show_docs() -> Response:
    """Answer the page with the OpenAPI document."""
    return FileResponse(FOLDER / "docs.html", headers=DOCS_HEADERS)


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def install(app: FastAPI, *, docs: bool) -> None:
    """Serve the dashboard and its files, and with `docs` the documentation."""
    app.include_router(router)
    app.mount("/dashboard", _Files(directory=FOLDER), name="dashboard")
    if docs:
        app.include_router(docs_router)
        app.mount("/docs/assets", _Files(directory=str(SWAGGER_UI)), name="docs")
