"""The messages about processors: which job types they serve, and that they are alive.

They are repeated, so a lost message does no harm, and a tracker with an empty Redis has them all within seconds.
"""

import operator
from datetime import timedelta
from hashlib import blake2b
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages import cloudevent
from milepost_contracts.messages.cloudevent import Message
from milepost_contracts.values import DEFAULT_MAX_RUNTIME, JsonSchema, Moment, QueueName, Span, TypeName, Value

HEARTBEAT_INTERVAL = timedelta(seconds=3)
ANNOUNCEMENT_INTERVAL = timedelta(seconds=15)
PROCESSOR_TTL = timedelta(seconds=10)
"""A processor that has sent no heartbeat for this long counts as gone."""
TYPE_TTL = timedelta(days=30)
"""How long a type stays submittable after its last announcement."""
VERSION_LIVE = 3 * ANNOUNCEMENT_INTERVAL
"""A version of a type that no processor has announced for this long counts as gone."""
VERSION_TTL = timedelta(minutes=10)
"""How long it is remembered when a version was announced first: a restart does not make an old version the newest."""
MAX_COUNT = 1_000_000
"""The highest number that a processor may state of what it has: such numbers are added up."""
Seconds = Annotated[float, Field(ge=0, le=1e9)]


class JobType(Value):
    """A job type as its processors announce it."""

    type: TypeName
    queue: QueueName
    title: str = Field(max_length=200)
    description: str = Field(default="", max_length=4_000)
    params_schema: JsonSchema
    result_schema: JsonSchema
    retries: int = Field(default=0, ge=0, le=MAX_COUNT)
    """How often a failed attempt is retried."""
    max_runtime: Span = DEFAULT_MAX_RUNTIME
    """How long one attempt may take."""
    version: str = Field(default="", pattern=r"^[0-9A-Za-z._+-]*$", max_length=64, exclude_if=operator.not_)
    """Tells apart what processors of different releases announce for one type: a digest of all of the above."""

    def with_version(self) -> Self:
        """Return the type with its version: the announced one, or a digest where an older processor announced none."""
        if self.version:
            return self
        digest = blake2b(self.model_dump_json().encode(), digest_size=8).hexdigest()
        return self.model_copy(update={"version": digest})


class RunningJob(Value):
    id: str = Field(max_length=64)
    type: TypeName
    attempt: int = Field(ge=0, le=999_999)
    started_at: Moment


class Heartbeat(Value):
    """The state of one processor."""

    instance: str = Field(min_length=1, max_length=200)
    started_at: Moment
    types: tuple[TypeName, ...]
    queues: tuple[QueueName, ...]
    threads: int = Field(ge=1, le=MAX_COUNT)
    """How many handlers can run at once."""
    running: tuple[RunningJob, ...] = ()
    held: int = Field(default=0, ge=0, le=MAX_COUNT)
    """How many deliveries it has not acknowledged, including those that it has not started."""
    queue_wait: dict[QueueName, Seconds] = Field(default_factory=dict, exclude_if=operator.not_)
    """The average wait of recent jobs before it started them, in seconds, by queue."""
    version: str = Field(max_length=50)


class Announcement(Value):
    instance: str = Field(min_length=1, max_length=200)
    types: tuple[JobType, ...]
    started_at: Moment | None = Field(default=None, exclude_if=operator.not_)
    """When the processor started; null if it is of an older release."""
    missing_queues: tuple[QueueName, ...] = Field(default=(), max_length=1_000, exclude_if=operator.not_)
    """Queues of jobs that it is to serve, and that do not exist at the broker: the trackers declare them."""


class QueueInfo(Value):
    """A queue of jobs, and the processors that serve it."""

    name: str
    ready: int
    """Jobs that wait to be delivered, without those that a processor has prefetched."""
    consumers: int
    """Consumers of the queue, as the broker counts them."""
    live_processors: int
    """Live processors that serve it."""
    threads: int
    """How many of its jobs they can run at once."""


class _WorkerMessage(Message):
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


class ProcessorAnnounced(_WorkerMessage):
    """A processor serves these types. Published at start and then every 15 seconds."""

    fact = "processor.announced"
    body = "announcement"
    announcement: Announcement


class ProcessorHeartbeat(_WorkerMessage):
    """A processor is alive. Published every 3 seconds."""

    fact = "processor.heartbeat"
    body = "heartbeat"
    heartbeat: Heartbeat


class ProcessorStopped(_WorkerMessage):
    """A processor has stopped in good order: it takes no more jobs."""

    fact = "processor.stopped"
    body = "heartbeat"
    heartbeat: Heartbeat


WorkerEvent = ProcessorAnnounced | ProcessorHeartbeat | ProcessorStopped
_MESSAGES: tuple[type[Message], ...] = (ProcessorAnnounced, ProcessorHeartbeat, ProcessorStopped)
_KNOWN = {message.cloudevent_type(): message for message in _MESSAGES}


def encode_worker_event(message: WorkerEvent) -> bytes:
    return cloudevent.encode(message)


def decode_worker_event(body: bytes) -> WorkerEvent:
    """Decode what `encode_worker_event` returned.

    Raises:
        MalformedEvent: It is not a message about a processor.
    """
    message = cloudevent.decode(body, _KNOWN)
    if not isinstance(message, ProcessorAnnounced | ProcessorHeartbeat | ProcessorStopped):
        raise MalformedEvent("not a message about a processor")
    return message
