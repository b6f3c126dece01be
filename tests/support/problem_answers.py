"""What every error answer of the gateway has in common."""

from typing import Any

import httpx


def problem(response: httpx.Response, status: int, slug: str | None) -> dict[str, Any]:
    """Assert that the response is this problem (any, for no slug), and whole; return it."""
    body: dict[str, Any] = response.json()
    assert (status, "application/problem+json") == (response.status_code, response.headers["content-type"])
    assert status == body["status"]
    assert slug is None or body["type"].endswith(f"#{slug}")
    assert body["title"]
    assert body["detail"]
    assert body["instance"].endswith(response.headers["x-request-id"])
    return body
