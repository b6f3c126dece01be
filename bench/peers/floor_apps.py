"""The apps of the HTTP floors: an ASGI app without a framework, and a minimal FastAPI app."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI

BODY = b'{"status":"hello"}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


async def raw(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


hello = FastAPI()


@hello.get("/jobs/{job_id}")
async def status(job_id: str) -> dict[str, str]:
    return {"status": "hello"}
