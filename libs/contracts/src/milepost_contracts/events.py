"""The facts of a job's life, one class each, in the past tense.

Each event carries the whole snapshot of its job (law 4) and a sequence that orders all events of that job totally:

    run · absorbing (succeeded, canceled) · turn · execution · terminal · step

so a job's state is the event of the greatest sequence, in whatever order and however often events arrive.

Some of them are commands too: whoever publishes that a job waits, or is put back, puts it with the same message
where it waits, so that there is never one without the other. `COMMANDS` are those that a processor takes up.
"""

from datetime import timedelta
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from milepost_contracts import envelope
from milepost_contracts.delay import delay_words
from milepost_contracts.envelope import Message
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.states import Status
from milepost_contracts.values import MAX_RUN, Job, Moment, QueueName, TenantName, TypeName, Value


class JobEvent(Message):
    """Something that happened to a job, with the job as it was then."""

    #: The state that the job is in after this event.
    status: ClassVar[Status]
    #: Whether it goes through the quorum queue and the log, confirmed; progress does not.
    lifecycle: ClassVar[bool] = True

    job: Job

    @property
    def subject(self) -> str:
        return self.job.id

    @property
    def source(self) -> str:
        return f"/v1/jobs/{self.job.id}"

    @property
    def sequence(self) -> str:
        """The key of the merge law: of two events of a job, the one that sorts last is its state."""
        job, status = self.job, self.status
        return f"{job.run:04d}.{status.absorbing:d}.{job.turn:08d}.{job.execution}.{status.terminal:d}.{job.step:010d}"

    @property
    def routing_key(self) -> str:
        return f"{self.fact}.{self.job.queue}.{self.job.type}"

    def data(self) -> Any:
        return self.job

    @classmethod
    def from_data(cls, data: Any, envelope: dict[str, Any]) -> Self:
        return cls.model_validate({**envelope, "job": data})

    @model_validator(mode="after")
    def _finished_if_terminal(self) -> Self:
        if self.status.terminal != (self.job.finished_at is not None):
            raise ValueError("finished_at belongs to terminal events, and to each of them")
        return self


class _WaitingEvent(JobEvent):
    """The job waits for its time in the delay ladder, whose levels the end of the routing key names."""

    @property
    def delay(self) -> timedelta:
        """How long the broker holds this message."""
        return (self.job.run_at or self.time) - self.time

    @property
    def routing_key(self) -> str:
        return f"{super().routing_key}.{delay_words(self.delay)}"

    @model_validator(mode="after")
    def _says_until_when(self) -> Self:
        if self.job.run_at is None:
            raise ValueError("a job that waits says until when")
        return self


class JobSubmitted(JobEvent):
    """The gateway accepted the job. It is the command too: a processor takes it from its work queue.

    Does not mean that anyone has started it.
    """

    fact = "job.submitted"
    status = Status.QUEUED


class JobScheduled(_WaitingEvent):
    """The gateway accepted the job for a later time. The broker delivers it to its work queue then.

    Does not mean that anyone starts it at that time: it is queued like any other.
    """

    fact = "job.scheduled"
    status = Status.SCHEDULED


class JobStarted(JobEvent):
    """A processor has claimed the job and is running its handler. May happen again: at-least-once.

    It is told a moment after the start. A handler that is over by then tells its end alone, and when it began.
    """

    fact = "job.started"
    status = Status.RUNNING


class JobProgressed(JobEvent):
    """The handler reported progress or a partial result. Coalesced, and may be lost: the next one repairs it."""

    fact = "job.progressed"
    status = Status.RUNNING
    lifecycle = False


class JobRetrying(_WaitingEvent):
    """An attempt failed and another one waits for its time. Does not mean that it has started."""

    fact = "job.retrying"
    status = Status.RETRYING


class JobInterrupted(JobEvent):
    """The processor had to stop and put the job back. Not a failure; the next attempt follows."""

    fact = "job.interrupted"
    status = Status.QUEUED


POSTPONED_IN_QUARANTINE = "job.postponed-in-quarantine"
"""In the routing key of what is postponed and goes back into quarantine, not to the others."""


class JobPostponed(_WaitingEvent):
    """The job was delivered again while the processor that has it lives. It is looked at again a little later.

    Says nothing of the job's state, so nobody but the delay ladder takes it.
    """

    fact = "job.postponed"
    status = Status.RUNNING
    lifecycle = False

    @property
    def routing_key(self) -> str:
        key = super().routing_key
        return key.replace(self.fact, POSTPONED_IN_QUARANTINE, 1) if self.job.quarantined else key


class JobQuarantined(JobEvent):
    """The broker gave the job up after too many deliveries; it gets another chance, apart from the others.

    Does not mean that the job itself is to blame: it may have been beside one that killed its workers.
    """

    fact = "job.quarantined"
    status = Status.QUEUED


class JobSucceeded(JobEvent):
    """The handler returned. Nothing that comes later changes it, but a new run."""

    fact = "job.succeeded"
    status = Status.SUCCEEDED


class JobFailed(JobEvent):
    """No further attempt will be made. Late evidence of success still wins."""

    fact = "job.failed"
    status = Status.FAILED

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.job.error is None:
            raise ValueError("a failed job says why")
        return self


class JobCanceled(JobEvent):
    """The job stopped because somebody asked for it, or never started."""

    fact = "job.canceled"
    status = Status.CANCELED


class CancelRequest(Value):
    job_id: str = Field(pattern=r"^[0-9a-z]{1,64}$")
    type: TypeName
    queue: QueueName
    run: int = Field(default=1, ge=1, le=MAX_RUN)
    requested_at: Moment


class CancelRequested(Message):
    """Somebody asked to cancel the job. Does not mean that it stopped: the job's own end says that."""

    fact = "job.cancel-requested"

    request: CancelRequest

    @property
    def subject(self) -> str:
        return self.request.job_id

    @property
    def source(self) -> str:
        return f"/v1/jobs/{self.request.job_id}"

    @property
    def routing_key(self) -> str:
        return f"{self.fact}.{self.request.queue}.{self.request.type}"

    def data(self) -> Any:
        return self.request

    @classmethod
    def from_data(cls, data: Any, envelope: dict[str, Any]) -> Self:
        return cls.model_validate({**envelope, "request": data})


class Forgotten(Value):
    """Which job is forgotten: all that was said of it up to this run."""

    job_id: str = Field(pattern=r"^[0-9a-z]{1,64}$")
    tenant: TenantName
    type: TypeName
    queue: QueueName
    run: int = Field(ge=1, le=MAX_RUN)


class JobForgotten(Message):
    """Somebody wants an ended job forgotten before its time. Does not mean a run that begins later."""

    fact = "job.forgotten"

    forgotten: Forgotten

    @property
    def subject(self) -> str:
        return self.forgotten.job_id

    @property
    def source(self) -> str:
        return f"/v1/jobs/{self.forgotten.job_id}"

    @property
    def routing_key(self) -> str:
        return f"{self.fact}.{self.forgotten.queue}.{self.forgotten.type}"

    def data(self) -> Any:
        return self.forgotten

    @classmethod
    def from_data(cls, data: Any, envelope: dict[str, Any]) -> Self:
        return cls.model_validate({**envelope, "forgotten": data})


#: What is wanted of a job.
Wish = CancelRequested | JobForgotten
WISHES = (CancelRequested, JobForgotten)
#: Everything that is said about a job.
AnyJobMessage = JobEvent | CancelRequested | JobForgotten

#: What says something of a job's state.
JOB_EVENTS: tuple[type[JobEvent], ...] = (
    JobSubmitted,
    JobScheduled,
    JobStarted,
    JobProgressed,
    JobRetrying,
    JobInterrupted,
    JobQuarantined,
    JobSucceeded,
    JobFailed,
    JobCanceled,
)

#: What a processor takes from its queues and runs.
COMMANDS = (JobSubmitted, JobScheduled, JobRetrying, JobInterrupted, JobPostponed, JobQuarantined)
Command = JobSubmitted | JobScheduled | JobRetrying | JobInterrupted | JobPostponed | JobQuarantined

_MESSAGES: tuple[type[Message], ...] = (*JOB_EVENTS, JobPostponed, *WISHES)
_KNOWN = {message.cloudevent_type(): message for message in _MESSAGES}


def encode_event(event: AnyJobMessage) -> bytes:
    """Render the event as the bytes that travel."""
    return envelope.encode(event)


def decode_event(body: bytes) -> AnyJobMessage:
    """Read what `encode_event` wrote.

    Raises:
        MalformedEvent: It is no event of a job; `UnknownEvent` if it is of an unknown type or version.
    """
    message = envelope.decode(body, _KNOWN)
    if not isinstance(message, JobEvent | CancelRequested | JobForgotten):
        raise MalformedEvent("not about a job")
    return message
