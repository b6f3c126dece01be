"""Puts off jobs that this processor has received and that another one should run.

During a deploy, processors of two releases serve one queue. A job whose type, or whose version of the type, this
processor can't run waits in the delay levels for one that can, instead of failing. That is no attempt, and no delivery
that counts. After `PUT_OFF_LIMIT` the job is dead-lettered: the tracker knows whether a live processor can run it.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, NoReturn

import jsonschema_rs
import structlog

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import Command, JobPostponed
from milepost_contracts.values import Job, PutOff, clipped, later_delivery
from milepost_processor.core.handlers import Handlers
from milepost_processor.core.runner import Delivery
from milepost_processor.core.secret_params import ParamsOpener
from milepost_processor.errors import SecretsUnreadable

log = structlog.get_logger(__name__)

MIN_DELAY, MAX_DELAY = timedelta(seconds=1), timedelta(seconds=30)
DELAY_FACTOR = 0.25
"""The delay, as a part of the time for which the job has been put off already: it grows while nobody can run it."""
PUT_OFF_LIMIT = timedelta(minutes=5)
"""How long processors put a job off by themselves."""
MAX_REFUSAL = 500


@dataclass(frozen=True)
class Obstacle:
    """Why a processor can't run a job, though another one may."""

    #: For the log.
    reason: str
    #: How its params differ from this processor's version of the type, if they do.
    refusal: str | None = None


class Eligibility:
    """Decides which of the delivered jobs this processor can run."""

    def __init__(self, handlers: Handlers, opener: ParamsOpener, *, delivery_limit: int) -> None:
        self._opener = opener
        self._types = {name: one.announcement() for name, one in handlers.definitions.items()}
        self._delivery_limit = delivery_limit
        self._validator = cache(self._compiled)

    def obstacle(self, job: Job) -> Obstacle | None:
        """Return why this processor can't run the job; nothing if it can.

        Params are checked here only if the gateway checked them against another version of the type.
        """
        served = self._types.get(job.type)
        if served is None:
            return Obstacle("its type is not served here")
        if not self._opener.has_key_of(job) and not _was_put_off_for_long(job):
            return Obstacle("its secret params are sealed with a key that is not known here")
        if job.type_version in (None, served.version):
            return None
        try:
            params = self._opener.open(job).params
        except SecretsUnreadable:
            return None  # the job fails when it is run
        error = next(self._validator(job.type).iter_errors(params), None)
        if error is None:
            return None
        return Obstacle("its params are for another version of its type", clipped(error.message, MAX_REFUSAL))

    def put_off(self, command: Command, delivery: Delivery, obstacle: Obstacle) -> JobPostponed | None:
        """Return the message that takes the place of the delivered one; nothing if that must be dead-lettered."""
        at, earlier = now(), command.job.put_off
        since = (earlier and earlier.since) or at
        too_often = command.job.redelivered + delivery.failed > self._delivery_limit
        if too_often or at - since > PUT_OFF_LIMIT:
            return None
        delay = max(MIN_DELAY, min(MAX_DELAY, (at - since) * DELAY_FACTOR))
        refusal = obstacle.refusal or (earlier and earlier.refusal) or None
        return _replacement(command, delivery, PutOff(since=since, until=at + delay, refusal=refusal))

    def _compiled(self, name: str) -> Any:
        """Return the validator of a type. A schema that is unusable, which no gateway accepts, refuses nothing here."""
        try:
            mask = "the value" if name in self._opener.types else None
            return jsonschema_rs.Draft202012Validator(self._types[name].params_schema, retriever=_refuse, mask=mask)
        except ValueError as error:
            log.warning("schema_unusable", type=name, error=str(error))
            return jsonschema_rs.Draft202012Validator(True)


def _was_put_off_for_long(job: Job) -> bool:
    since = None if job.put_off is None else job.put_off.since
    return since is not None and now() - since > PUT_OFF_LIMIT


def given_back(command: Command, delivery: Delivery) -> JobPostponed:
    """Return the message that puts a delivered job back into its queue at once: nothing has been done with it."""
    earlier = command.job.put_off or PutOff(until=now())
    return _replacement(command, delivery, earlier.model_copy(update={"until": now()}))


def _replacement(command: Command, delivery: Delivery, put_off: PutOff) -> JobPostponed:
    job = command.job
    changes = {
        "put_off": put_off,
        # The broker counts the deliveries of each message; this one must not count, and earlier ones must not be lost.
        "delivery": later_delivery(job.delivery, delivery.count + 1),
        "redelivered": job.redelivered + delivery.failed,
        # Earlier releases require a time; this one has no effect.
        "run_at": job.run_at or job.created_at,
    }
    return JobPostponed(job=job.model_copy(update=changes), traceparent=command.traceparent)


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"the schema refers to {uri}")
