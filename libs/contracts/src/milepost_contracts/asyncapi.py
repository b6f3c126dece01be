"""Builds the AsyncAPI document: the messages at the broker, for teams that bind queues of their own.

Source: AsyncAPI 3.0.0, its AMQP binding 0.3.0. Schemas keep to what JSON Schema 2020-12 and Draft 7 share.
"""

from collections.abc import Iterable
from inspect import cleandoc
from typing import Any

from pydantic.json_schema import models_json_schema

from milepost_contracts.messages.broker_objects import Exchange
from milepost_contracts.messages.cloudevent import CONTENT_TYPE, Message
from milepost_contracts.messages.job_events import (
    JOB_EVENTS,
    REQUESTS,
    CancelRequest,
    CancelRequested,
    DeletionRequest,
    JobDeleted,
    JobEvent,
)
from milepost_contracts.messages.topology import WAITING, Topology
from milepost_contracts.messages.worker_events import (
    Announcement,
    Heartbeat,
    ProcessorAnnounced,
    ProcessorHeartbeat,
    ProcessorStopped,
)
from milepost_contracts.values import Job

DESCRIPTION = """\
Every message is a CloudEvents 1.0 envelope in structured mode. An event of a job carries a complete snapshot of it.
The state of a job is the event whose `sequence` sorts last. To receive events, bind a queue to `{exchange}`:
with `job.succeeded.#` for all successes, with `job.*.*.crunch.#` for all events of jobs of the type `crunch`.
Limit its length with `x-overflow: drop-head` only: a queue that refuses messages misses them, and slows Milepost down.
"""
_JOB_MESSAGES: tuple[type[Message], ...] = (*JOB_EVENTS, *REQUESTS)
_WORKER_MESSAGES: tuple[type[Message], ...] = (ProcessorAnnounced, ProcessorHeartbeat, ProcessorStopped)
_DATA_TYPES: dict[type[Message], type[Any]] = {
    CancelRequested: CancelRequest,
    JobDeleted: DeletionRequest,
    ProcessorAnnounced: Announcement,
    ProcessorHeartbeat: Heartbeat,
    ProcessorStopped: Heartbeat,
}
_TEXT = {"type": "string"}


def document(topology: Topology, *, version: str) -> dict[str, Any]:
    """Return the document of a deployment."""
    messages = [(kind, topology.jobs) for kind in _JOB_MESSAGES]
    messages += [(kind, topology.workers) for kind in _WORKER_MESSAGES]
    kinds = [(_data_type(kind), "serialization") for kind, _ in messages]
    _, schemas = models_json_schema(kinds, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Milepost events",
            "version": version,
            "description": DESCRIPTION.format(exchange=topology.jobs.name),
            "license": {"name": "Apache-2.0"},
            "tags": [{"name": "jobs"}, {"name": "workers"}],
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {"broker": {"host": "localhost:5672", "protocol": "amqp", "description": "RabbitMQ"}},
        "channels": {_name(kind): _channel(kind, exchange) for kind, exchange in messages},
        "operations": {f"send{kind.__name__}": _operation(kind) for kind, _ in messages},
        "components": {
            "messages": {kind.__name__: _message(kind) for kind, _ in messages},
            "schemas": schemas["$defs"],
        },
    }


def _data_type(kind: type[Message]) -> type[Any]:
    return _DATA_TYPES.get(kind, Job)


def _name(kind: type[Message]) -> str:
    return kind.fact


def _channel(kind: type[Message], exchange: Exchange) -> dict[str, Any]:
    places = ["queue", "type"] if kind not in _WORKER_MESSAGES else []
    address = ".".join([kind.fact, *(f"{{{place}}}" for place in places)])
    if kind.fact in WAITING:
        places.append("levels")
        address += ".{levels}"
    descriptions = {
        "queue": "The queue that the type's jobs wait in",
        "type": "The job type",
        "levels": "The bits of the delay, one word for each delay level",
    }
    return {
        "address": address,
        "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"}},
        **({"parameters": {place: {"description": descriptions[place]} for place in places}} if places else {}),
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
    """Return the JSON Schema of a message; its `data` refers to a component of the document."""
    fields: dict[str, dict[str, Any]] = {
        "specversion": {"const": "1.0"},
        "id": {**_TEXT, "description": "Stays the same when the message is published again"},
        "source": {**_TEXT, "format": "uri-reference"},
        "type": {"const": kind.cloudevent_type()},
        "subject": {**_TEXT, "description": "The id of the job or the processor"},
        "time": {**_TEXT, "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "dataschema": {**_TEXT, "format": "uri"},
        "data": {"$ref": f"#/components/schemas/{_data_type(kind).__name__}"},
    }
    required: Iterable[str] = tuple(fields)
    if issubclass(kind, JobEvent):
        fields["sequence"] = {**_TEXT, "description": "Sorts the events of a job"}
        required = (*required, "sequence")
    fields["traceparent"] = {**_TEXT, "description": "W3C trace context of the original request"}
    return {"type": "object", "properties": fields, "required": list(required)}
