"""The OpenAPI document: FastAPI's own, completed with what FastAPI can't know.

That this package parses request bodies itself, how clients authenticate, and which webhooks are sent.
"""

from collections.abc import Mapping
from inspect import cleandoc
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from milepost_contracts import asyncapi
from milepost_contracts.http.problems import Problem
from milepost_contracts.messages.cloudevent import CONTENT_TYPE
from milepost_contracts.messages.job_events import JobCanceled, JobEvent, JobFailed, JobSucceeded
from milepost_contracts.values import Job
from milepost_gateway.api.authentication import AUTHENTICATED, TOKEN
from milepost_gateway.api.routes.batches import BatchRequest
from milepost_gateway.api.routes.dead_letters import RedriveRequest
from milepost_gateway.core.submission import Submission

REFERENCE = "#/components/schemas/{model}"
DESCRIPTION = """\
A job is followed by polling, by waiting, or as a stream.

Every error is `application/problem+json` (RFC 9457); the reference of problems explains each `type`.
"""
TAGS = [
    {"name": "jobs", "description": "Submit jobs, read and stream their status, cancel, retry and delete them."},
    {"name": "batches", "description": "Submit many jobs in one request, and read their progress."},
    {
        "name": "webhooks",
        "description": "Notifications of a job's end: their delivery attempts, and the secrets that verify them.",
    },
    {"name": "dead letters", "description": "Jobs that the broker dead-lettered, and their redrive."},
    {"name": "workers", "description": "Job types, queues and processors."},
    {"name": "health", "description": "Probes and metrics of this process."},
]

_TEXT = {"type": "string"}
TERMINAL_EVENTS = (JobSucceeded, JobFailed, JobCanceled)
WEBHOOK = """\
Sent to the job's `callback_url` (Standard Webhooks 1.0), at least once: a repeat has the same `webhook-id`. \
The receiver must answer within 15 s. Failed deliveries are retried for three days.
"""
_WEBHOOK_HEADERS = {
    "webhook-id": "The same for every delivery attempt",
    "webhook-timestamp": "The time of this attempt, in seconds since 1970",
    "webhook-signature": "`v1,` and a signature, for each current secret (`/v1/webhook-secrets`)",
}

_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`milepost keys create`), or a JSON Web Token of a trusted issuer",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key"},
    "streamToken": {
        "type": "apiKey",
        "in": "query",
        "name": TOKEN,
        "description": "A stream token, for an EventSource or a browser's WebSocket, which can't set headers",
    },
}


def install(app: FastAPI) -> None:
    """Serve this document at `/openapi.json`."""

    def made() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build_document(app)
        return app.openapi_schema

    app.openapi = made  # type: ignore[method-assign]


def build_document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of this app's routes."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
        servers=[{"url": "/", "description": "This gateway"}],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    document["security"] = [*AUTHENTICATED, {}]
    document["components"]["securitySchemes"] = _SCHEMES
    schemas = document["components"]["schemas"]
    read = [(kind, "validation") for kind in (Submission, BatchRequest, RedriveRequest)]
    written = [(kind, "serialization") for kind in (Problem, Job)]
    _, ours = models_json_schema([*read, *written], ref_template=REFERENCE)  # type: ignore[list-item]
    schemas.update(ours["$defs"])
    _leave_out_defaults(schemas)
    document["webhooks"] = {kind.fact.replace(".", "-"): {"post": _webhook(kind)} for kind in TERMINAL_EVENTS}
    return document


def _leave_out_defaults(schemas: Mapping[str, Any]) -> None:
    """Remove defaults: generators of typed clients make a field with a default required, also in requests."""
    for kind in (Submission, BatchRequest, RedriveRequest, Problem):
        for field in schemas[kind.__name__]["properties"].values():
            field.pop("default", None)


def _webhook(kind: type[JobEvent]) -> dict[str, Any]:
    """Return the operation of a webhook: what receivers get, and what their answers mean."""
    body = asyncapi.payload(kind)
    body["properties"]["timestamp"] = {**_TEXT, "format": "date-time", "description": "The same as `time`"}
    sentence = cleandoc(kind.__doc__ or "").partition("\n")[0]
    return {
        "operationId": f"notify_{kind.fact.replace('.', '_')}",
        "tags": ["webhooks"],
        "summary": sentence.rstrip("."),
        "description": WEBHOOK,
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": _TEXT, "description": description}
            for name, description in _WEBHOOK_HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {CONTENT_TYPE: {"schema": body}}},
        "responses": {
            "2XX": {"description": "Accepted"},
            "410": {"description": "No more webhooks are sent to this URL"},
            "default": {"description": "Failed, redirects included: the delivery is retried"},
        },
    }
