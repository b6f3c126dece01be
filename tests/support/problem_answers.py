"""Assertions that hold for every problem response of the gateway."""

from typing import Any

import httpx


def problem(response: httpx.Response, status: int, slug: str | None) -> dict[str, Any]:
    """Assert that the response is a complete problem with this status and slug (None: any slug); return its body."""
    body: dict[str, Any] = response.json()
    assert (status, "application/problem+json") == (response.status_code, response.headers["content-type"])
    assert status == body["status"]
    assert slug is None or body["type"].endswith(f"#{slug}")
    assert body["title"]
    assert body["detail"]
    assert body["instance"].endswith(response.headers["x-request-id"])
    return body
