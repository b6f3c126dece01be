"""The wire format of all messages: CloudEvents 1.0, structured mode, JSON.

The class of a message determines its CloudEvents `type`; its body is the `data`. Source: CloudEvents 1.0.2 and its
JSON format; extensions `sequence` and `traceparent` (distributed tracing) as documented there.
"""

from abc import abstractmethod
from typing import Any, ClassVar, Self
from uuid import uuid4

import pydantic_core
from pydantic import Field, ValidationError

from milepost_contracts.clock import now
from milepost_contracts.errors import MalformedEvent, UnknownEvent
from milepost_contracts.values import MAX_EVENT, Moment, Value

CONTENT_TYPE = "application/cloudevents+json"

TYPE_PREFIX = "dev.milepost."

VERSION = "v1"


class Message(Value):
    """One CloudEvent. Subclasses define its fact, subject and data."""

    #: What happened, for example `job.started`; with prefix and version it is the CloudEvents `type`.
    fact: ClassVar[str]

    event_id: str = Field(default_factory=lambda: uuid4().hex, min_length=1, max_length=64)
    """The CloudEvents `id`: stays the same when the message is published again."""
    time: Moment = Field(default_factory=now)
    traceparent: str | None = Field(default=None, pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
    """W3C trace context of the original request."""

    def __repr__(self) -> str:
        """Return a name without the content: it goes into logs, and params may be private."""
        return f"{type(self).__name__}({self.subject} {self.sequence or ''})"

    __str__ = __repr__

    @classmethod
    def cloudevent_type(cls) -> str:
        return f"{TYPE_PREFIX}{cls.fact}.{VERSION}"

    @property
    @abstractmethod
    def subject(self) -> str:
        """The id of the job or the processor."""

    @property
    @abstractmethod
    def source(self) -> str:
        """The CloudEvents `source`, a URI reference; `sequence` sorts within it."""

    @property
    def sequence(self) -> str | None:
        """The CloudEvents `sequence`: sorts lexicographically per source."""
        return None

    @property
    @abstractmethod
    def routing_key(self) -> str:
        """The AMQP routing key, at most 255 bytes."""

    @abstractmethod
    def data(self) -> Any:
        """The value of `data`, as JSON."""

    @classmethod
    @abstractmethod
    def from_data(cls, data: Any, envelope: dict[str, Any]) -> Self:
        """The inverse of `data()`; `envelope` holds the fields of this class itself."""


def encode(message: Message) -> bytes:
    """Render the message as a structured-mode CloudEvent."""
    kind = message.cloudevent_type()
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": message.event_id,
        "source": message.source,
        "type": kind,
        "subject": message.subject,
        "time": message.time,
        "datacontenttype": "application/json",
        "dataschema": f"https://milepost.dev/schemas/{kind.removeprefix(TYPE_PREFIX)}.json",
    }
    if message.sequence is not None:
        envelope["sequence"] = message.sequence
    if message.traceparent is not None:
        envelope["traceparent"] = message.traceparent
    envelope["data"] = message.data()
    return pydantic_core.to_json(envelope)


def peek(body: bytes) -> tuple[str, str | None]:
    """Return subject and sequence of a message, without validating the rest.

    Raises:
        MalformedEvent: It has no subject, is no JSON, or is too long.
    """
    envelope = _parse(body)
    subject = envelope.get("subject") if isinstance(envelope, dict) else None
    if not isinstance(subject, str):
        raise MalformedEvent("it has no subject")
    sequence = envelope.get("sequence")
    return subject, sequence if isinstance(sequence, str) else None


def _parse(body: bytes) -> Any:
    if len(body) > MAX_EVENT:
        raise MalformedEvent(f"{len(body)} bytes are more than the {MAX_EVENT} allowed")
    try:
        return pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedEvent(f"not JSON: {error}") from error


def decode(body: bytes, known: dict[str, type[Message]]) -> Message:
    """Read a message of one of the known classes, by CloudEvents type.

    Raises:
        UnknownEvent: A CloudEvent, but of no known type.
        MalformedEvent: Anything else that is not a valid message.
    """
    envelope = _parse(body)
    if not isinstance(envelope, dict) or envelope.get("specversion") != "1.0":
        raise MalformedEvent("not a CloudEvents 1.0 envelope")
    kind = envelope.get("type")
    found = known.get(kind) if isinstance(kind, str) else None
    if found is None:
        raise UnknownEvent(f"unknown event type: {str(kind)[:100]!r}")
    try:
        message = found.from_data(
            envelope.get("data"),
            {
                "event_id": envelope.get("id"),
                "time": envelope.get("time"),
                "traceparent": envelope.get("traceparent"),
            },
        )
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'data'}: {e['msg']}" for e in error.errors()[:3])
        raise MalformedEvent(f"{kind}: {where}") from error
    if envelope.get("sequence") != message.sequence:
        raise MalformedEvent(f"{kind}: its sequence does not match its data")
    if envelope.get("subject") != message.subject or envelope.get("source") != message.source:
        raise MalformedEvent(f"{kind}: its subject or source does not match its data")
    return message
