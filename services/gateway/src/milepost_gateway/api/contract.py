"""The OpenAPI document: what FastAPI finds out by itself, and what it can't know.

It can't know that requests are read by our own hands, that every error is a problem, and which headers there are.
"""

from collections.abc import Mapping
from inspect import cleandoc
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from milepost_contracts import asyncapi
from milepost_contracts.envelope import CONTENT_TYPE
from milepost_contracts.events import JobCanceled, JobEvent, JobFailed, JobSucceeded
from milepost_contracts.notes import describe
from milepost_contracts.problems import Problem
from milepost_contracts.values import Job
from milepost_gateway.api.access import TOKEN
from milepost_gateway.api.batches import BatchRequest
from milepost_gateway.api.dead_letters import RedriveRequest
from milepost_gateway.api.responses import problem
from milepost_gateway.submission import Submission

REFERENCE = "#/components/schemas/{model}"
DESCRIPTION = """\
Hand over a long-running job, get `202 Accepted` at once, and follow every step: by polling, by waiting, or as a stream.

Every error is `application/problem+json` (RFC 9457); its `type` is explained in the reference of problems.
"""
TAGS = [
    {"name": "jobs", "description": "Hand jobs over, look at them, follow them, cancel them, run them again."},
    {"name": "batches", "description": "Many jobs at once, and how far they are."},
    {
        "name": "webhooks",
        "description": "Being told of a job's end: what became of it, and the secrets to verify it with.",
    },
    {"name": "dead letters", "description": "What the broker gave up, and handing it over again."},
    {"name": "fleet", "description": "What can be submitted, and who is there to run it."},
    {"name": "health", "description": "For whoever starts, watches and routes to this process."},
]

_TEXT = {"type": "string"}
_HEADERS: Mapping[str, dict[str, Any]] = {
    "Location": {
        "description": "Where the job can be looked at; absolute",
        "schema": {"type": "string", "format": "uri"},
    },
    "Operation-Location": {
        "description": "The same, for generic clients",
        "schema": {"type": "string", "format": "uri"},
    },
    "Content-Location": {"description": "What this body is", "schema": {"type": "string", "format": "uri"}},
    "Link": {"description": 'Where the job\'s events are: `rel="monitor"`', "schema": _TEXT},
    "Retry-After": {
        "description": "Seconds after which a second look is worth it",
        "schema": {"type": "integer", "minimum": 1, "maximum": 30},
    },
    "ETag": {"description": "The version of the document", "schema": _TEXT},
    "Sunset": {"description": "When the job is forgotten (RFC 8594)", "schema": _TEXT},
    "Preference-Applied": {"description": "How long the gateway was willing to wait", "schema": _TEXT},
}
_PLACES = ("Location", "Operation-Location", "Link")
_ANSWERED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("submit_job", "200"): (*_PLACES, "Content-Location", "Preference-Applied", "ETag"),
    ("submit_job", "202"): (*_PLACES, "Retry-After", "Preference-Applied", "ETag"),
    ("get_job", "200"): ("ETag", "Retry-After", "Sunset", "Preference-Applied"),
    ("get_job", "303"): ("Location",),
    ("submit_batch", "207"): ("Location", "Operation-Location", "Retry-After"),
    ("get_batch", "200"): ("Retry-After",),
    ("get_result", "200"): ("ETag", "Sunset"),
    ("get_result", "202"): (*_PLACES, "Retry-After", "ETag"),
    ("cancel_job", "202"): (*_PLACES, "Retry-After", "ETag"),
    ("retry_job", "202"): (*_PLACES, "Retry-After", "ETag"),
    ("redeliver_webhook", "202"): ("Location",),
    ("redrive", "202"): (*_PLACES, "Retry-After", "ETag"),
}
_ASKED: Mapping[str, dict[str, Any]] = {
    "Prefer": {
        "description": "`wait=N`: hold the answer back for up to N seconds, at most 30 (RFC 7240)",
        "schema": _TEXT,
        "example": "wait=5",
    },
    "Idempotency-Key": {
        "description": "Within a day, the same request with the same key is the same job",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        "example": '"8e03978e-40d5"',
    },
    "If-None-Match": {"description": "The version that the client has", "schema": _TEXT, "example": '"1250"'},
    "Range": {"description": "The bytes that are wanted", "schema": _TEXT, "example": "bytes=0-1023"},
    "Last-Event-ID": {"description": "The event behind which to resume", "schema": _TEXT, "example": "1250"},
}
_TAKES: Mapping[str, tuple[str, ...]] = {
    "submit_job": ("Prefer", "Idempotency-Key"),
    "submit_batch": ("Idempotency-Key",),
    "get_job": ("Prefer", "If-None-Match"),
    "get_result": ("If-None-Match", "Range"),
    "get_output": ("If-None-Match", "Range"),
    "follow_job": ("Last-Event-ID",),
    "follow_jobs": ("Last-Event-ID",),
}
_LEADS_TO = {
    "look": {"operationId": "get_job", "parameters": {"job_id": "$response.body#/id"}},
    "follow": {"operationId": "follow_job", "parameters": {"job_id": "$response.body#/id"}},
    "cancel": {"operationId": "cancel_job", "parameters": {"job_id": "$response.body#/id"}},
    "result": {"operationId": "get_result", "parameters": {"job_id": "$response.body#/id"}},
}


ENDS = (JobSucceeded, JobFailed, JobCanceled)
WEBHOOK = """\
Sent to the job's `callback_url` (Standard Webhooks 1.0), at least once: `webhook-id` tells a repeat from another one. \
A receiver answers within 15 s; what is not taken is sent again for three days.
"""
_SIGNED = {
    "webhook-id": "The same for every try",
    "webhook-timestamp": "When this try was made, in seconds since 1970",
    "webhook-signature": "`v1,` and a signature, for each secret that there is (`/v1/webhook-secrets`)",
}

_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`milepost keys create`), or a JSON Web Token of an issuer that the gateway trusts",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key"},
    "streamToken": {
        "type": "apiKey",
        "in": "query",
        "name": TOKEN,
        "description": "A stream token, for an EventSource or a browser's WebSocket, which can set no headers",
    },
}
_WHO: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}]


def install(app: FastAPI) -> None:
    """Serve this document at `/openapi.json`."""

    def made() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = made  # type: ignore[method-assign]


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of this app's routes."""
    told = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
        servers=[{"url": "/", "description": "This gateway"}],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    told["security"] = [*_WHO, {}]
    told["components"]["securitySchemes"] = _SCHEMES
    schemas = told["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    read = [(kind, "validation") for kind in (Submission, BatchRequest, RedriveRequest)]
    written = [(kind, "serialization") for kind in (Problem, Job)]
    _, ours = models_json_schema([*read, *written], ref_template=REFERENCE)  # type: ignore[list-item]
    schemas.update(ours["$defs"])
    _leave_out_defaults(schemas)
    describe(schemas)
    told["webhooks"] = {kind.fact.replace(".", "-"): {"post": _webhook(kind)} for kind in ENDS}
    for path in told["paths"].values():
        for operation in path.values():
            _complete(operation)
    return told


def _leave_out_defaults(schemas: Mapping[str, Any]) -> None:
    """Typed clients take what has a default for what is always there: in a request it would have to be given."""
    for kind in (Submission, BatchRequest, RedriveRequest, Problem):
        for told in schemas[kind.__name__]["properties"].values():
            told.pop("default", None)


def _webhook(kind: type[JobEvent]) -> dict[str, Any]:
    """Describe a webhook: what receivers get, and what their answers mean."""
    body = asyncapi.payload(kind)
    body["properties"]["timestamp"] = {**_TEXT, "format": "date-time", "description": "The same as `time`"}
    sentence = cleandoc(kind.__doc__ or "").partition("\n")[0]
    return {
        "operationId": f"tell_{kind.fact.replace('.', '_')}",
        "tags": ["webhooks"],
        "summary": sentence.rstrip("."),
        "description": WEBHOOK,
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": _TEXT, "description": description}
            for name, description in _SIGNED.items()
        ],
        "requestBody": {"required": True, "content": {CONTENT_TYPE: {"schema": body}}},
        "responses": {
            "2XX": {"description": "Taken"},
            "410": {"description": "This URL wants no more webhooks"},
            "default": {"description": "Not taken, redirects included: it is sent again later"},
        },
    }


def _complete(operation: dict[str, Any]) -> None:
    name, responses = operation["operationId"], operation["responses"]
    if name in ("livez", "readyz"):
        operation["security"] = []
    else:
        responses["401"] = problem("Not authenticated")
        responses["403"] = problem("Not allowed")
    if name in ("follow_job", "follow_jobs"):
        operation["security"] = [*_WHO, {"streamToken": []}, {}]
    validation = responses.get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if validation.get("$ref", "").endswith("HTTPValidationError"):
        del responses["422"]
        responses.setdefault("400", problem("The request can't be read"))
    responses["default"] = problem("Any other problem")
    for status, response in responses.items():
        if headers := _ANSWERED.get((name, status)):
            response["headers"] = {header: _HEADERS[header] for header in headers}
        if name == "submit_job" and status in ("200", "202"):
            response["links"] = _LEADS_TO
    asked = [{"name": header, "in": "header", **_ASKED[header]} for header in _TAKES.get(name, ())]
    if asked:
        operation.setdefault("parameters", []).extend(asked)
    operation["responses"] = dict(sorted(responses.items()))
