"""Results and files as downloads: complete or by range (RFC 9110 §14), with their digests."""

import base64
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import pydantic_core
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from milepost_contracts.states import Status
from milepost_contracts.status.document import JobDocument
from milepost_contracts.values import FileRef, is_own_file
from milepost_gateway.api import headers, responses
from milepost_gateway.api.authentication import MAY_READ, tenant
from milepost_gateway.api.dependencies import dependencies
from milepost_gateway.errors import NoResult, NoSuchOutput, RangeNotSatisfiable

router = APIRouter(prefix="/v1", tags=["jobs"])

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_PARTS: dict[int | str, dict[str, Any]] = {
    206: {"description": "The requested range", "content": {"*/*": _BYTES}},
    304: {"description": "Unchanged since the version in If-None-Match"},
}


@router.get(
    "/jobs/{job_id}/result",
    dependencies=[MAY_READ],
    summary="Get a job's result",
    response_class=Response,
    responses={
        200: {
            "description": "What the handler returned, or wrote as its result",
            "content": {"application/json": {"schema": {}}, "*/*": _BYTES},
            **headers.sent("ETag", "Sunset"),
        },
        202: {
            "model": JobDocument,
            "description": "No result yet: the job's document",
            **headers.sent(*headers.LOCATION, "Retry-After", "ETag"),
        },
        **_PARTS,
        **responses.problems(400, 404, 409, 410, 416, 503),
    },
    openapi_extra=headers.read("If-None-Match", "Range"),
)
async def get_result(request: Request, job_id: str) -> Response:
    """Answer 200 with the result alone, 202 while there is none, or a problem if the job failed or was canceled.

    A result over 64 KiB, or one that the handler wrote as a file, is a download with its own media type.
    """
    deps = dependencies(request)
    stored = await deps.statuses.get(job_id, tenant=tenant(request))
    if not stored.terminal:
        return responses.accepted(request, job_id, stored)
    document = pydantic_core.from_json(stored.body)
    if document["status"] != Status.SUCCEEDED:
        raise NoResult(
            document["status"], (document["error"] or {}).get("message") or f"The job was {document['status']}."
        )
    if document["result_file"] is None:
        return responses.result(request, stored, pydantic_core.to_json(document["result"]))
    snapshot = await deps.store.snapshot(job_id)
    if snapshot is None or snapshot.job.result_file is None:  # another run has begun meanwhile
        raise NoSuchOutput
    return await _download(request, job_id, snapshot.job.result_file)


@router.get(
    "/jobs/{job_id}/outputs/{name:path}",
    dependencies=[MAY_READ],
    summary="Download a file that the handler wrote",
    response_class=Response,
    responses={
        200: {"description": "The file", "content": {"*/*": _BYTES}},
        **_PARTS,
        **responses.problems(400, 404, 410, 416, 503),
    },
    openapi_extra=headers.read("If-None-Match", "Range"),
)
async def get_output(request: Request, job_id: str, name: str) -> Response:
    """Answer the file with this name, once the job has ended; the document lists the files under `outputs`."""
    _, snapshot = await dependencies(request).statuses.known(job_id, tenant=tenant(request))
    files = snapshot.job.outputs if snapshot.status.terminal else ()
    found = next((file for file in files if file.name == name), None)
    if found is None:
        raise NoSuchOutput
    return await _download(request, job_id, found)


async def _download(request: Request, job_id: str, file: FileRef) -> Response:
    if not is_own_file(file, job_id):
        raise NoSuchOutput
    etag = f'"{(file.digest or file.key)[:32]}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": _disposition(file.name),
        "X-Content-Type-Options": "nosniff",
    }
    if file.digest is not None:
        headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(file.digest)).decode()}:"
    known = request.headers.get("if-none-match") or ""
    if known.strip() == "*" or etag in known:
        return Response(status_code=304, headers=headers)
    part = None if request.headers.get("if-range", etag) != etag else _range(request.headers.get("range"), file.size)
    start, end = part or (0, file.size)
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    content = await dependencies(request).blob_store.open(file.key, start, end)
    return _Download(content, status_code=206 if part else 200, headers=headers, media_type=file.media_type)


class _Download(StreamingResponse):
    """A response with exactly the handler's media type: no charset is added."""

    def __init__(
        self, content: AsyncIterator[bytes], *, status_code: int, headers: Mapping[str, str], media_type: str | None
    ) -> None:
        kind = media_type or "application/octet-stream"
        super().__init__(content, status_code=status_code, headers={**headers, "Content-Type": kind})


def _range(asked: str | None, size: int) -> tuple[int, int] | None:
    """Return the start and the end (exclusive) of the requested range; nothing for the complete file.

    Anything but a single range of bytes is ignored, as RFC 9110 §14.2 allows.

    Raises:
        RangeNotSatisfiable: The range is outside the file.
    """
    found = _RANGE.fullmatch(asked or "")
    if found is None or found[1] == found[2] == "":
        return None
    if found[1]:
        start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
        if found[2] and int(found[2]) < start:
            return None
    else:
        start, end = max(0, size - int(found[2])), size
    if start >= end:
        raise RangeNotSatisfiable(size)
    return start, end


def _disposition(name: str) -> str:
    """Return the Content-Disposition (RFC 6266), with the last segment of the path as file name: no other is safe."""
    last = name.rsplit("/", 1)[-1]
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", last)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(last, safe='')}"
