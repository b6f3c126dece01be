"""The events of a job and the requests about it, one class each.

Each event carries a complete snapshot of its job (law 4) and a sequence that orders all events of that job totally:

    run · absorbing (succeeded, canceled) · delivery number · execution · terminal · step

The state of a job is the event with the greatest sequence, in whatever order and however often events arrive. In the
sequence of a failure the delivery number is raised beyond that of every event that is not an end: over means over.

Some events are also commands: the message that tells other services that a job waits, or was put back, is the message
that waits in the queue. So neither exists alone. `COMMANDS` are the events that processors consume.
"""

from datetime import timedelta
from typing import Any, ClassVar, Self
from uuid import NAMESPACE_URL, uuid5

from pydantic import Field, model_validator

from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages import cloudevent
from milepost_contracts.messages.cloudevent import Message
from milepost_contracts.messages.delay_levels import delay_words
from milepost_contracts.states import Status
from milepost_contracts.values import (
    FAILED_DELIVERY,
    INFERRED_DELIVERY,
    MAX_RUN,
    MAX_STATED_DELIVERY,
    Job,
    Moment,
    QueueName,
    TenantName,
    TypeName,
    Value,
    is_own_file,
)


class JobEvent(Message):
    """An event of a job, with a snapshot of the job."""

    #: The state that the job is in after this event.
    status: ClassVar[Status]
    #: Whether it goes to the tracker's lifecycle queue and to the log; progress does not.
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
        """The key of the merge law: the state of a job is the event that sorts last."""
        job, status = self.job, self.status
        return (
            f"{job.run:04d}.{status.absorbing:d}.{self._rank:08d}.{job.execution}.{status.terminal:d}.{job.step:010d}"
        )

    @property
    def _rank(self) -> int:
        """The delivery number, as the sequence has it."""
        return self.job.delivery

    @property
    def routing_key(self) -> str:
        return f"{self.fact}.{self.job.queue}.{self.job.type}"

    def data(self) -> Any:
        return self.job

    @property
    def shown(self) -> Self:
        """This event as clients see it: without the sealed secrets, which are for processors."""
        if self.job.sealed is None:
            return self
        return self.model_copy(update={"job": self.job.model_copy(update={"sealed": None})})

    def with_derived_id(self) -> Self:
        """Return this event with an id derived from its sequence: equal events of different publishers have one id."""
        return self.model_copy(update={"event_id": uuid5(NAMESPACE_URL, f"{self.source}/{self.sequence}").hex})

    @classmethod
    def from_data(cls, data: Any, envelope: dict[str, Any]) -> Self:
        return cls.model_validate({**envelope, "job": data})

    @model_validator(mode="after")
    def _finished_if_terminal(self) -> Self:
        if self.status.terminal != (self.job.finished_at is not None):
            raise ValueError("a terminal event needs finished_at, and other events must not have it")
        if self._rank > MAX_STATED_DELIVERY and not isinstance(self, JobFailed):
            raise ValueError(f"its delivery number is above {MAX_STATED_DELIVERY}")
        return self


class _WaitingEvent(JobEvent):
    """The job waits in the delay levels that the end of its routing key names."""

    @property
    def delay(self) -> timedelta:
        """How long the broker holds this message."""
        return (self.job.run_at or self.time) - self.time

    @property
    def routing_key(self) -> str:
        return f"{super().routing_key}.{delay_words(self.delay)}"

    @model_validator(mode="after")
    def _has_run_at(self) -> Self:
        if self.job.run_at is None:
            raise ValueError("a waiting job needs run_at")
        return self


class JobSubmitted(JobEvent):
    """The gateway accepted the job. It is the command too: a processor consumes it from its work queue.

    Does not mean that the job has started.
    """

    fact = "job.submitted"
    status = Status.QUEUED


class JobScheduled(_WaitingEvent):
    """The gateway accepted the job for a later time. The broker delivers it to its work queue then.

    Does not mean that it starts at that time: it is queued like any other job.
    """

    fact = "job.scheduled"
    status = Status.SCHEDULED


class JobStarted(JobEvent):
    """A processor has claimed the job and is running its handler. Happens again after a redelivery: at-least-once.

    It is published shortly after the start. If the handler has returned by then, only the end is published, with the
    time of the start.
    """

    fact = "job.started"
    status = Status.RUNNING


class JobProgressed(JobEvent):
    """The handler reported progress or a partial result. Coalesced, and may be lost: the next event repeats it."""

    fact = "job.progressed"
    status = Status.RUNNING
    lifecycle = False


class JobRetrying(_WaitingEvent):
    """An attempt failed or asked for another one, which waits for its time. Does not mean that it has started."""

    fact = "job.retrying"
    status = Status.RETRYING


class JobInterrupted(JobEvent):
    """The processor had to stop and put the job back. Not a failure; the next attempt follows."""

    fact = "job.interrupted"
    status = Status.QUEUED


POSTPONED_IN_QUARANTINE = "job.postponed-in-quarantine"
"""The fact in the routing key of a postponed job that goes back to the quarantine queue, not to the work queue."""


class JobPostponed(_WaitingEvent):
    """A processor received the job and does not run it now. It is delivered again a little later.

    Another processor still runs the job, or this one can't run it (`put_off`): it does not serve the type or this
    version of it, or has no thread free. It does not change the job's state: only the delay levels receive it.
    """

    fact = "job.postponed"
    status = Status.RUNNING
    lifecycle = False

    @property
    def delay(self) -> timedelta:
        put_off = self.job.put_off  # by the clock of who publishes this, as the time; `run_at` may be by another one
        return super().delay if put_off is None else put_off.until - self.time

    @property
    def routing_key(self) -> str:
        key = super().routing_key
        return key.replace(self.fact, POSTPONED_IN_QUARANTINE, 1) if self.job.quarantined else key


class JobQuarantined(JobEvent):
    """The broker dead-lettered the job after too many deliveries; it gets another chance in the quarantine queue.

    Does not mean that the job itself is to blame: another job may have killed the workers that it ran on.
    """

    fact = "job.quarantined"
    status = Status.QUEUED


class JobSucceeded(JobEvent):
    """The handler returned. Only a new run can change this state."""

    fact = "job.succeeded"
    status = Status.SUCCEEDED


class JobFailed(JobEvent):
    """No further attempt will be made. A success that is published later still wins."""

    fact = "job.failed"
    status = Status.FAILED

    @property
    def _rank(self) -> int:
        delivery = self.job.delivery
        return delivery if delivery >= INFERRED_DELIVERY else delivery + FAILED_DELIVERY

    @model_validator(mode="after")
    def _has_error(self) -> Self:
        if self.job.error is None:
            raise ValueError("a failed job needs an error")
        if MAX_STATED_DELIVERY < self.job.delivery < INFERRED_DELIVERY:
            raise ValueError(f"its delivery number is above {MAX_STATED_DELIVERY}, and not that of an inferred end")
        return self


class JobCanceled(JobEvent):
    """The job was canceled, while it ran or before it started."""

    fact = "job.canceled"
    status = Status.CANCELED


class _Request(Value):
    job_id: str = Field(pattern=r"^[0-9a-z]{1,64}$")
    type: TypeName
    queue: QueueName


class CancelRequest(_Request):
    """Which run of a job is to be canceled."""

    run: int = Field(default=1, ge=1, le=MAX_RUN)
    requested_at: Moment


class DeletionRequest(_Request):
    """Which job is deleted, up to which run."""

    tenant: TenantName
    run: int = Field(ge=1, le=MAX_RUN)


class _RequestMessage(Message):
    request: _Request

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


class CancelRequested(_RequestMessage):
    """A client requested that the job be canceled. Does not mean that it stopped: the event of its end does."""

    fact = "job.cancel-requested"

    request: CancelRequest


class JobDeleted(_RequestMessage):
    """A client deleted an ended job before it expired. Does not affect a run that begins later."""

    fact = "job.deleted"

    request: DeletionRequest


#: What clients request of a job.
JobRequest = CancelRequested | JobDeleted
REQUESTS = (CancelRequested, JobDeleted)
#: Every message about a job.
AnyJobMessage = JobEvent | CancelRequested | JobDeleted

#: The events that determine a job's state.
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

#: The events that a processor consumes and runs.
COMMANDS = (JobSubmitted, JobScheduled, JobRetrying, JobInterrupted, JobPostponed, JobQuarantined)
Command = JobSubmitted | JobScheduled | JobRetrying | JobInterrupted | JobPostponed | JobQuarantined

#: All messages about jobs.
JOB_MESSAGES: tuple[type[Message], ...] = (*JOB_EVENTS, JobPostponed, *REQUESTS)
_KNOWN = {message.cloudevent_type(): message for message in JOB_MESSAGES}


def encode_event(event: AnyJobMessage) -> bytes:
    """Return the event as the bytes of a message."""
    return cloudevent.encode(event)


def decode_event(body: bytes) -> AnyJobMessage:
    """Decode what `encode_event` returned.

    Raises:
        MalformedEvent: It is not a message about a job; `UnknownEvent` if it is of an unknown type or version.
    """
    message = cloudevent.decode(body, _KNOWN)
    if not isinstance(message, JobEvent | CancelRequested | JobDeleted):
        raise MalformedEvent("not a message about a job")
    if isinstance(message, JobEvent) and not all(is_own_file(file, message.subject) for file in message.job.all_files):
        raise MalformedEvent(f"{message.fact}: one of its files is not in the folder of its job")
    return message
