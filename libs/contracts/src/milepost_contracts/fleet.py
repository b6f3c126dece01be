"""What processors say of themselves: which job types they serve, and that they are alive.

Announced again and again, so a lost message does no harm and a tracker with an empty Redis learns all within seconds.
"""

import operator
from datetime import timedelta
from typing import Any, ClassVar, Self

from pydantic import AwareDatetime, Field

from milepost_contracts import envelope
from milepost_contracts.envelope import Message
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.values import MAX_RUNTIME, JsonSchema, QueueName, Span, TypeName, Value

BEAT_EVERY = timedelta(seconds=3)
ANNOUNCE_EVERY = timedelta(seconds=15)
ALIVE_FOR = timedelta(seconds=10)
"""A processor that has not been heard of for so long counts as gone."""
TYPE_KNOWN_FOR = timedelta(days=30)
"""How long a type stays submittable after its last announcement."""


class JobType(Value):
    """A job type as its processors announce it."""

    type: TypeName
    queue: QueueName
    title: str = Field(max_length=200)
    description: str = Field(default="", max_length=4_000)
    params_schema: JsonSchema
    result_schema: JsonSchema
    #: How often a failed attempt is followed by another one.
    retries: int = Field(default=0, ge=0)
    #: How long one attempt may take.
    max_runtime: Span = MAX_RUNTIME


class RunningJob(Value):
    id: str
    type: TypeName
    attempt: int
    started_at: AwareDatetime


class Beat(Value):
    """The state of one processor."""

    instance: str = Field(min_length=1, max_length=200)
    started_at: AwareDatetime
    types: tuple[TypeName, ...]
    queues: tuple[QueueName, ...]
    #: How many handlers can run at once.
    threads: int = Field(ge=1)
    running: tuple[RunningJob, ...] = ()
    #: How many deliveries it holds, those it has not started yet among them.
    held: int = Field(default=0, ge=0)
    #: How many seconds jobs have waited lately until it started them, by queue.
    waits: dict[QueueName, float] = Field(default_factory=dict, exclude_if=operator.not_)
    version: str = Field(max_length=50)


class Catalogue(Value):
    instance: str = Field(min_length=1, max_length=200)
    types: tuple[JobType, ...]


class QueueInfo(Value):
    """A queue of jobs, and who serves it."""

    name: str
    #: Jobs that wait to be delivered; those that a processor holds already are not among them.
    ready: int
    #: Processors that take jobs from it, as the broker counts them.
    consumers: int
    #: Processors that serve it and are alive, and how many of its jobs they can run at once.
    live_processors: int
    threads: int


class FleetMessage(Message):
    #: The field of the subclass that travels as `data`.
    body: ClassVar[str]

    @property
    def subject(self) -> str:
        return str(self.data().instance)

    @property
    def source(self) -> str:
        return f"/v1/processors/{self.subject}"

    @property
    def routing_key(self) -> str:
        return self.fact

    def data(self) -> Any:
        return getattr(self, self.body)

    @classmethod
    def from_data(cls, data: Any, envelope: dict[str, Any]) -> Self:
        return cls.model_validate({**envelope, cls.body: data})


class ProcessorAnnounced(FleetMessage):
    """A processor serves these types. Said at start and then every `ANNOUNCE_EVERY`."""

    fact = "processor.announced"
    body = "catalogue"
    catalogue: Catalogue


class ProcessorBeat(FleetMessage):
    """A processor is alive. Said every `BEAT_EVERY`."""

    fact = "processor.beat"
    body = "beat"
    beat: Beat


class ProcessorStopped(FleetMessage):
    """A processor is going, in good order: it takes no more jobs."""

    fact = "processor.stopped"
    body = "beat"
    beat: Beat


AnyFleetMessage = ProcessorAnnounced | ProcessorBeat | ProcessorStopped
_MESSAGES: tuple[type[Message], ...] = (ProcessorAnnounced, ProcessorBeat, ProcessorStopped)
_KNOWN = {message.cloudevent_type(): message for message in _MESSAGES}


def encode_fleet(message: AnyFleetMessage) -> bytes:
    return envelope.encode(message)


def decode_fleet(body: bytes) -> AnyFleetMessage:
    """Read what `encode_fleet` wrote.

    Raises:
        MalformedEvent: It is nothing that a processor says of itself.
    """
    message = envelope.decode(body, _KNOWN)
    if not isinstance(message, ProcessorAnnounced | ProcessorBeat | ProcessorStopped):
        raise MalformedEvent("not about a processor")
    return message
