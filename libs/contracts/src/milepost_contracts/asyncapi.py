"""The AsyncAPI document: what is said at the broker, for teams that bind queues of their own to it.

Source: AsyncAPI 3.0.0, its AMQP binding 0.3.0. Schemas keep to what JSON Schema 2020-12 and Draft 7 share.
"""

from collections.abc import Iterable
from inspect import cleandoc
from typing import Any

from pydantic.json_schema import models_json_schema

from milepost_contracts.envelope import CONTENT_TYPE, Message
from milepost_contracts.events import (
    JOB_EVENTS,
    WISHES,
    CancelRequest,
    CancelRequested,
    Forgotten,
    JobEvent,
    JobForgotten,
)
from milepost_contracts.fleet import Beat, Catalogue, ProcessorAnnounced, ProcessorBeat, ProcessorStopped
from milepost_contracts.notes import describe
from milepost_contracts.topology import WAITING, Exchange, Topology
from milepost_contracts.values import Job

DESCRIPTION = """\
Every message is a CloudEvents 1.0 envelope in structured mode, and carries the whole of what it is about, as it was.
Of two events of a job, the one whose `sequence` sorts last is its state. Bind a queue of your own to `{exchange}`:
`job.succeeded.#` for all that succeeds, `job.*.*.crunch` for all that happens to jobs of one type.
"""
_JOBS: tuple[type[Message], ...] = (*JOB_EVENTS, *WISHES)
_FLEET: tuple[type[Message], ...] = (ProcessorAnnounced, ProcessorBeat, ProcessorStopped)
_ABOUT: dict[type[Message], type[Any]] = {
    CancelRequested: CancelRequest,
    JobForgotten: Forgotten,
    ProcessorAnnounced: Catalogue,
    ProcessorBeat: Beat,
    ProcessorStopped: Beat,
}
_TEXT = {"type": "string"}


def document(topology: Topology, *, version: str) -> dict[str, Any]:
    """Return the document of a deployment."""
    said = [(kind, topology.jobs) for kind in _JOBS] + [(kind, topology.fleet) for kind in _FLEET]
    kinds = [(_about(kind), "serialization") for kind, _ in said]
    _, schemas = models_json_schema(kinds, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    describe(schemas["$defs"])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Milepost events",
            "version": version,
            "description": DESCRIPTION.format(exchange=topology.jobs.name),
            "license": {"name": "Apache-2.0"},
            "tags": [{"name": "jobs"}, {"name": "fleet"}],
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {"broker": {"host": "localhost:5672", "protocol": "amqp", "description": "RabbitMQ"}},
        "channels": {_name(kind): _channel(kind, exchange) for kind, exchange in said},
        "operations": {f"say{kind.__name__}": _operation(kind) for kind, _ in said},
        "components": {
            "messages": {kind.__name__: _message(kind) for kind, _ in said},
            "schemas": schemas["$defs"],
        },
    }


def _about(kind: type[Message]) -> type[Any]:
    return _ABOUT.get(kind, Job)


def _name(kind: type[Message]) -> str:
    return kind.fact


def _channel(kind: type[Message], exchange: Exchange) -> dict[str, Any]:
    places = ["queue", "type"] if kind not in _FLEET else []
    address = ".".join([kind.fact, *(f"{{{place}}}" for place in places)])
    if kind.fact in WAITING:
        places.append("levels")
        address += ".{levels}"
    told = {
        "queue": "The queue that the type's jobs wait in",
        "type": "The job type",
        "levels": "The levels of the delay ladder that the message goes through, each a word",
    }
    return {
        "address": address,
        "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"}},
        **({"parameters": {place: {"description": told[place]} for place in places}} if places else {}),
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": exchange.name, "type": exchange.kind, "durable": True, "autoDelete": False},
                "bindingVersion": "0.3.0",
            }
        },
    }


def _operation(kind: type[Message]) -> dict[str, Any]:
    channel = f"#/channels/{_name(kind)}"
    return {
        "action": "send",
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{kind.__name__}"}],
        "description": _summary(kind),
        "bindings": {"amqp": {"deliveryMode": 2, "mandatory": True, "bindingVersion": "0.3.0"}},
    }


def _message(kind: type[Message]) -> dict[str, Any]:
    return {
        "name": kind.cloudevent_type(),
        "title": kind.__name__,
        "summary": _summary(kind),
        "description": cleandoc(kind.__doc__ or ""),
        "contentType": CONTENT_TYPE,
        "correlationId": {"location": "$message.payload#/subject"},
        "payload": payload(kind),
    }


def _summary(kind: type[Message]) -> str:
    return cleandoc(kind.__doc__ or "").partition("\n")[0]


def payload(kind: type[Message]) -> dict[str, Any]:
    """Return the JSON Schema of a message; what it is about is a component of the document."""
    fields: dict[str, dict[str, Any]] = {
        "specversion": {"const": "1.0"},
        "id": {**_TEXT, "description": "Stays the same when the message is published again"},
        "source": {**_TEXT, "format": "uri-reference"},
        "type": {"const": kind.cloudevent_type()},
        "subject": {**_TEXT, "description": "What it is about: the id of a job or a processor"},
        "time": {**_TEXT, "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "dataschema": {**_TEXT, "format": "uri"},
        "data": {"$ref": f"#/components/schemas/{_about(kind).__name__}"},
    }
    required: Iterable[str] = tuple(fields)
    if issubclass(kind, JobEvent):
        fields["sequence"] = {**_TEXT, "description": "Sorts the events of a job"}
        required = (*required, "sequence")
    fields["traceparent"] = {**_TEXT, "description": "W3C trace context of the request that began it all"}
    return {"type": "object", "properties": fields, "required": list(required)}
