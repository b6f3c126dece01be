"""What is read from a request: its body within limits, its files as streams, its trace and its id."""

import asyncio
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, TypeVar

from fastapi import Request
from fastapi.requests import HTTPConnection
from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Scope

from milepost_gateway.api import strict_json
from milepost_gateway.errors import PayloadTooLarge
from milepost_gateway.submission import Submission, read_strictly

M = TypeVar("M", bound=BaseModel)
CHUNK = 1 << 20
MAX_JOB_PART = 256 * 1024
_NAME = 255
_TAIL = 256
"""Enough bytes of a form's end for its last boundary."""
MAX_KEY = 255
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-~]+")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class MalformedRequest(Exception):  # noqa: N818 - named as the condition
    """The request can't be read."""


class RequestStopped(Exception):  # noqa: N818
    """The rest of the request's body does not come."""


class UnsupportedMediaType(Exception):  # noqa: N818
    """The body is of a type that is not understood."""


GO_ON_WITHIN = 10.0
"""Seconds within which the next piece of a body must come."""
_LONG = 256 * 1024
"""Bytes of JSON that take so long to read that others get their turn meanwhile."""
_BATCH = 8 * 1024 * 1024


@dataclass(frozen=True)
class Limits:
    #: Bytes of a JSON body.
    body: int
    #: Bytes of a body with files.
    upload: int
    files: int

    @property
    def for_batches(self) -> "Limits":
        """A request for many jobs may be larger."""
        return replace(self, body=max(self.body, _BATCH))


_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,40}/[A-Za-z0-9!#$&^_.+-]{1,50}")


@dataclass(frozen=True)
class FormUpload:
    """See `submission.Upload`."""

    name: str
    part: UploadFile

    @property
    def media_type(self) -> str | None:
        """As the client says, if that can be one (RFC 9110 §8.3.1)."""
        kind = self.part.content_type or ""
        return kind if _MEDIA_TYPE.fullmatch(kind) else None

    async def chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self.part.read(CHUNK):
            yield chunk


@dataclass(frozen=True)
class SubmissionBody:
    """A submission, and the files that came with it."""

    submission: Submission
    uploads: tuple[FormUpload, ...] = ()


@asynccontextmanager
async def read_submission(request: Request, limits: Limits) -> AsyncIterator[SubmissionBody]:
    """Read JSON, or a form whose part `job` is that JSON and whose parts `file` are files, open until the context ends.

    Raises:
        MalformedRequest, UnsupportedMediaType, PayloadTooLarge, InvalidSubmission: What is wrong with it.
    """
    media_type = (header(request, b"content-type") or "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        body = b"".join([chunk async for chunk in _limited(request, limits.body)])
        yield SubmissionBody(Submission.read(_json(body)))
    elif media_type == "multipart/form-data":
        form = await _parse_form(request, limits)
        try:
            yield await _read_form(form)
        finally:
            await form.close()
    else:
        raise UnsupportedMediaType("Send application/json, or multipart/form-data to send files along.")


async def read_model(request: Request, kind: type[M], limits: Limits) -> M:
    """Read a JSON body as a value of this kind.

    Raises:
        MalformedRequest, UnsupportedMediaType, PayloadTooLarge, InvalidSubmission: What is wrong with it.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("Send application/json.")
    body = b"".join([chunk async for chunk in _limited(request, limits.body)])
    value = await asyncio.to_thread(_json, body) if len(body) > _LONG else _json(body)
    return read_strictly(kind, value)


class _FormTooLarge(MultiPartException):
    """The parser closes what it has opened for this exception, and its like, alone."""


async def _parse_form(request: Request, limits: Limits) -> FormData:
    _, options = parse_options_header(request.headers["content-type"])
    last_boundary = b"--" + options.get(b"boundary", b"") + b"--"

    async def stream() -> AsyncGenerator[bytes, None]:
        tail = b""
        try:
            async for chunk in _limited(request, limits.upload):
                tail = (tail + chunk)[-_TAIL:]
                yield chunk
        except PayloadTooLarge as error:
            raise _FormTooLarge(str(error)) from error
        if last_boundary not in tail:
            raise MultiPartException("the form was cut off: its last boundary is missing")

    parser = MultiPartParser(
        request.headers,
        stream(),
        max_files=limits.files,
        max_fields=10,
        max_part_size=MAX_JOB_PART,
    )
    try:
        return await parser.parse()
    except _FormTooLarge as error:
        raise PayloadTooLarge(error.message) from error
    except MultiPartException as error:
        raise MalformedRequest(error.message.rstrip(".")) from error
    except (KeyError, ValueError, AssertionError) as error:
        raise MalformedRequest("the form has no boundary, or parts that can't be read") from error


async def _read_form(form: FormData) -> SubmissionBody:
    jobs = form.getlist("job")
    if len(jobs) != 1:
        raise MalformedRequest(f"the form has {len(jobs)} parts named job; it needs one, which says what to do")
    (job,) = jobs
    if isinstance(job, UploadFile):
        if (job.size or 0) > MAX_JOB_PART:
            raise PayloadTooLarge(f"The part named job has {job.size} bytes; {MAX_JOB_PART} are allowed.")
        job = (await job.read()).decode(errors="surrogateescape")
    strange = sorted({name for name, _ in form.multi_items()} - {"job", "file"})
    if strange:
        raise MalformedRequest("the form may only have parts named job and file")
    if any(isinstance(part, str) for part in form.getlist("file")):
        raise MalformedRequest("a part named file has no file name, so it is no file")
    uploads = tuple(
        FormUpload(_clean_name(part.filename), part) for part in form.getlist("file") if isinstance(part, UploadFile)
    )
    return SubmissionBody(Submission.read(_json(job.encode(errors="surrogateescape"))), uploads)


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    announced = header(request, b"content-length") or "0"
    if announced.isdigit() and int(announced) > limit:
        raise PayloadTooLarge(f"The body has {announced} bytes; {limit} are allowed.")
    read, more = 0, True
    while more:
        try:
            async with asyncio.timeout(GO_ON_WITHIN):
                message = await request.receive()
        except TimeoutError as error:
            raise RequestStopped from error
        if message["type"] == "http.disconnect":
            raise RequestStopped
        chunk, more = message.get("body", b""), message.get("more_body", False)
        read += len(chunk)
        if read > limit:
            raise PayloadTooLarge(f"The body has more than the {limit} bytes allowed.")
        yield chunk


def _json(body: bytes) -> Any:
    try:
        return strict_json.loads(body)
    except strict_json.NotStrictJson as error:
        raise MalformedRequest(str(error)) from error


def _clean_name(name: str | None) -> str:
    """Keep a relative path of printable characters; it only labels the file, nothing is ever stored under it."""
    steps = (name or "").replace("\\", "/").split("/")
    kept = ("".join(c for c in step if c.isprintable()).strip() for step in steps)
    return "/".join(step for step in kept if step not in ("", ".", ".."))[-_NAME:] or "unnamed"


def refuse_unknown_parameters(request: Request, *known: str) -> None:
    """Let no filter be ignored silently: it would answer what was not asked for.

    Raises:
        MalformedRequest: There are other query parameters than these.
    """
    if set(request.query_params) - set(known):
        what = f"knows {', '.join(sorted(known))}, and no other parameter" if known else "knows no parameters"
        raise MalformedRequest(f"this listing {what}")


def idempotency_key(request: Request) -> str | None:
    """Return the request's Idempotency-Key: a quoted string (RFC 8941 §3.3.3), or the same without its quotes.

    Raises:
        MalformedRequest: It is none that can be kept.
    """
    given = [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"idempotency-key"]
    if not given:
        return None
    quoted = _QUOTED.fullmatch(given[0])
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else given[0]
    if len(given) > 1 or not (quoted or _BARE.fullmatch(key)) or not 1 <= len(key) <= MAX_KEY:
        what = f"one string of 1 to {MAX_KEY} printable ASCII characters, in quotes if it has blanks"
        raise MalformedRequest(f"the Idempotency-Key is not {what}")
    return key


async def fingerprint(body: SubmissionBody) -> str:
    """Return what tells a request from every other one."""
    digest = blake2b(body.submission.model_dump_json().encode(), digest_size=16)
    for upload in body.uploads:
        digest.update(f"{len(upload.name)}:{upload.name}:{upload.part.size}:".encode())
        async for chunk in upload.chunks():
            digest.update(chunk)
        await upload.part.seek(0)
    return digest.hexdigest()


def traceparent(request: Request) -> str | None:
    """Return the caller's W3C trace context, if it is one."""
    given = header(request, b"traceparent")
    return given if given and _TRACEPARENT.fullmatch(given) else None


def header(connection: HTTPConnection, name: bytes) -> str | None:
    """Return a header by its lower-case name, the first if there are several."""
    for one, value in connection.scope["headers"]:
        if one == name:
            return str(value.decode("latin-1"))
    return None


def request_id(scope: Scope) -> str:
    """Return the id that the logs and every problem carry."""
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        state["request_id"] = f"{random.getrandbits(128):032x}"
    return str(state["request_id"])
