"""Reads requests: bodies within limits, files as streams, the trace context and the request id."""

import asyncio
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeVar

from fastapi import Request
from fastapi.requests import HTTPConnection
from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Scope

from milepost_contracts.values import MEDIA_TYPE
from milepost_gateway.api import strict_json
from milepost_gateway.core.submission import Submission, read_strictly
from milepost_gateway.errors import PayloadTooLarge

M = TypeVar("M", bound=BaseModel)
CHUNK_SIZE = 1 << 20
MAX_JOB_PART = 256 * 1024
_MAX_NAME = 255
_FORM_TAIL = 256
"""Bytes kept of a form's end: enough for its last boundary."""
MAX_KEY = 255
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-~]+")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class MalformedRequest(Exception):  # noqa: N818 - named as the condition
    """The request is malformed."""


class RequestStopped(Exception):  # noqa: N818
    """The request's body stopped arriving."""


class UnsupportedMediaType(Exception):  # noqa: N818
    """The body has an unsupported media type."""


BODY_TIMEOUT = 10.0
"""Seconds within which the next piece of a body must arrive."""
_LONG_JSON = 256 * 1024
"""A batch with more bytes is parsed job by job, so that other requests get to run."""
_BATCH_BODY = 8 * 1024 * 1024


@dataclass(frozen=True)
class BodyLimits:
    body: int
    """Bytes of a JSON body."""
    upload: int
    """Bytes of a body with files."""
    files: int
    """Number of files."""


@dataclass(frozen=True)
class _FormUpload:
    """Implements `core.submission.Upload`."""

    name: str
    part: UploadFile

    @property
    def media_type(self) -> str | None:
        """The media type that the client sent, if it is well-formed (RFC 9110 §8.3.1)."""
        kind = self.part.content_type or ""
        return kind if MEDIA_TYPE.fullmatch(kind) else None

    async def chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self.part.read(CHUNK_SIZE):
            yield chunk


@dataclass(frozen=True)
class SubmissionBody:
    """A submission, and the files that came with it."""

    submission: Submission
    uploads: tuple[_FormUpload, ...] = ()


@asynccontextmanager
async def read_submission(request: Request, limits: BodyLimits) -> AsyncIterator[SubmissionBody]:
    """Read JSON, or a form whose part `job` is that JSON and whose parts `file` are files, open until the context ends.

    Raises:
        MalformedRequest, UnsupportedMediaType, PayloadTooLarge, InvalidSubmission: It is invalid; the class says how.
        RequestStopped: Its body stopped arriving.
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
        raise UnsupportedMediaType("Send application/json, or multipart/form-data with files.")


async def read_model(request: Request, kind: type[M], limits: BodyLimits) -> M:
    """Read a JSON body as a value of this kind.

    Raises:
        MalformedRequest, UnsupportedMediaType, PayloadTooLarge, InvalidSubmission: It is invalid; the class says how.
        RequestStopped: It stopped arriving.
    """
    return read_strictly(kind, _json(await _read_json(request, limits.body)))


async def read_batch(request: Request, kind: type[M], limits: BodyLimits) -> M:
    """Read a JSON object whose one field is `jobs`, as a value of this kind.

    Raises:
        MalformedRequest, UnsupportedMediaType, PayloadTooLarge, InvalidSubmission: It is invalid; the class says how.
        RequestStopped: It stopped arriving.
    """
    body = await _read_json(request, max(limits.body, _BATCH_BODY))
    if len(body) <= _LONG_JSON:
        return read_strictly(kind, _json(body))
    jobs = []
    try:
        for job in strict_json.items(body, "jobs", longest=_LONG_JSON):
            jobs.append(job)
            await asyncio.sleep(0)
    except strict_json.ItemTooLong as error:
        raise PayloadTooLarge(f"The job {len(jobs)} has more than {_LONG_JSON} bytes.") from error
    except strict_json.NotStrictJson as error:
        raise MalformedRequest(str(error)) from error
    return read_strictly(kind, {"jobs": jobs})


async def _read_json(request: Request, limit: int) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("Send application/json.")
    return b"".join([chunk async for chunk in _limited(request, limit)])


class _FormTooLarge(MultiPartException):
    """Carries `PayloadTooLarge` through the parser, which closes its files only for a `MultiPartException`."""


async def _parse_form(request: Request, limits: BodyLimits) -> FormData:
    _, options = parse_options_header(request.headers["content-type"])
    last_boundary = b"--" + options.get(b"boundary", b"") + b"--"

    async def stream() -> AsyncGenerator[bytes, None]:
        tail = b""
        try:
            async for chunk in _limited(request, limits.upload):
                tail = (tail + chunk)[-_FORM_TAIL:]
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
        raise MalformedRequest(f"the form has {len(jobs)} parts named job; it needs exactly one")
    (job,) = jobs
    if isinstance(job, UploadFile):
        if (job.size or 0) > MAX_JOB_PART:
            raise PayloadTooLarge(f"The part named job has {job.size} bytes; {MAX_JOB_PART} are allowed.")
        job = (await job.read()).decode(errors="surrogateescape")
    strange = sorted({name for name, _ in form.multi_items()} - {"job", "file"})
    if strange:
        raise MalformedRequest("the form may only have parts named job and file")
    if any(isinstance(part, str) for part in form.getlist("file")):
        raise MalformedRequest("a part named file has no file name")
    uploads = tuple(
        _FormUpload(_clean_name(part.filename), part) for part in form.getlist("file") if isinstance(part, UploadFile)
    )
    return SubmissionBody(Submission.read(_json(job.encode(errors="surrogateescape"))), uploads)


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in request.scope["headers"]):
        raise UnsupportedMediaType("Send the body without a Content-Encoding.")
    announced = header(request, b"content-length") or "0"
    if announced.isdigit() and int(announced) > limit:
        raise PayloadTooLarge(f"The body has {announced} bytes; {limit} are allowed.")
    read, more = 0, True
    while more:
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
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
    """Return a relative path of printable characters. It is only a label: no file is stored under it."""
    segments = (name or "").replace("\\", "/").split("/")
    kept = ("".join(c for c in segment if c.isprintable()).strip() for segment in segments)
    return "/".join(segment for segment in kept if segment not in ("", ".", ".."))[-_MAX_NAME:] or "unnamed"


def refuse_unknown_parameters(request: Request, *known: str) -> None:
    """Refuse unknown query parameters: a misspelled filter that is ignored would return the wrong jobs.

    Raises:
        MalformedRequest: There are other query parameters than these.
    """
    if set(request.query_params) - set(known):
        what = f"only the query parameters {', '.join(sorted(known))}" if known else "no query parameters"
        raise MalformedRequest(f"this path has {what}")


def idempotency_key(request: Request) -> str | None:
    """Return the request's Idempotency-Key: a quoted string (RFC 8941 §3.3.3), or the same without its quotes.

    Raises:
        MalformedRequest: It is malformed, or there are several.
    """
    given = [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"idempotency-key"]
    if not given:
        return None
    quoted = _QUOTED.fullmatch(given[0])
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else given[0]
    if len(given) > 1 or not (quoted or _BARE.fullmatch(key)) or not 1 <= len(key) <= MAX_KEY:
        what = f"one string of 1 to {MAX_KEY} printable ASCII characters, in quotes if it has spaces"
        raise MalformedRequest(f"the Idempotency-Key must be {what}")
    return key


async def fingerprint(body: SubmissionBody) -> str:
    """Return a digest of the submission and its files."""
    digest = blake2b(body.submission.model_dump_json().encode(), digest_size=16)
    for upload in body.uploads:
        digest.update(f"{len(upload.name)}:{upload.name}:{upload.part.size}:".encode())
        async for chunk in upload.chunks():
            digest.update(chunk)
        await upload.part.seek(0)
    return digest.hexdigest()


def traceparent(request: Request) -> str | None:
    """Return the caller's W3C trace context, if it is valid."""
    given = header(request, b"traceparent")
    return given if given and _TRACEPARENT.fullmatch(given) else None


def header(connection: HTTPConnection, name: bytes) -> str | None:
    """Return a header by its lower-case name, the first if there are several."""
    for one, value in connection.scope["headers"]:
        if one == name:
            return str(value.decode("latin-1"))
    return None


def request_id(scope: Scope) -> str:
    """Return the request's id, which its log lines and its problem carry."""
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        state["request_id"] = f"{random.getrandbits(128):032x}"
    return str(state["request_id"])
