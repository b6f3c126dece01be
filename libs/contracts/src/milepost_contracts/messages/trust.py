"""Decodes what the broker delivered, and believes it only from who may state it (law 11). Every receiver uses this.

A message must have a sender that may state its fact, about a queue that it may serve; it must look as the event
implies; and the job in it must have been let run by a gateway.
"""

import re
from datetime import datetime, timedelta

from milepost_contracts.clock import now
from milepost_contracts.errors import RefusedMessage, UnknownJobId
from milepost_contracts.grants import is_granted
from milepost_contracts.ids import Keyring
from milepost_contracts.messages.cloudevent import CONTENT_TYPE, Message
from milepost_contracts.messages.delay_levels import LEVELS, MAX_DELAY
from milepost_contracts.messages.job_events import (
    AnyJobMessage,
    CancelRequested,
    JobDeleted,
    JobEvent,
    decode_event,
)
from milepost_contracts.messages.received import Received
from milepost_contracts.messages.senders import Senders
from milepost_contracts.messages.topology import WEBHOOK_KEY
from milepost_contracts.messages.worker_events import ProcessorAnnounced, WorkerEvent, decode_worker_event

_BITS = re.compile(rf"[01](\.[01]){{{LEVELS - 1}}}")
_WORDS = 4
"""`job.<event>.<queue>.<type>`, or `webhook.send.<queue>.<type>`; the bits of a delay may follow."""
CLOCK_TOLERANCE = timedelta(days=1)
"""How far the clock of a sender may be ahead of this one."""
MAX_STATED_DELAY = 2 * MAX_DELAY
"""How far ahead a job's `run_at` may be: redriven jobs wait one after the other, beyond what a client may request."""


def believable(moment: datetime) -> datetime:
    """Return a time, or now in place of one in the future, which nobody would believe."""
    return moment if moment <= now() + CLOCK_TOLERANCE else now()


class Trust:
    """Decides which messages one service believes.

    Every method raises `MalformedEvent` for what is no such message, and `RefusedMessage` for what is not believed.
    """

    def __init__(self, senders: Senders, keyring: Keyring | None) -> None:
        """Prepare; a service without the id keys can't check grants, and leaves that to those that have them."""
        self.senders = senders
        self._keyring = keyring

    def job_message(self, received: Received) -> AnyJobMessage:
        """Decode a message about a job."""
        message = decode_event(received.body)
        self.check(message, received)
        return message

    def check(self, message: AnyJobMessage, received: Received) -> None:
        """Check a message about a job that is decoded already."""
        queue = message.job.queue if isinstance(message, JobEvent) else message.request.queue
        self.senders.check(received.user_id, message.fact, queues={queue})
        _check_properties(received, message)
        # What a tracker publishes for the log alone has no routing key.
        if received.routing_key or received.user_id not in self.senders.trackers:
            _check_key(received.routing_key, message.routing_key)
        self._check_identity(message)
        if isinstance(message, JobEvent):
            _check_times(message)

    def webhook(self, received: Received) -> JobEvent:
        """Decode the event of a webhook that is due."""
        event = decode_event(received.body)
        if not isinstance(event, JobEvent) or event.job.callback_url is None:
            raise RefusedMessage("it has no callback URL")
        self.senders.check(received.user_id, WEBHOOK_KEY, queues={event.job.queue})
        _check_properties(received, event)
        if received.routing_key.split(".", _WORDS)[:_WORDS] != [
            *WEBHOOK_KEY.split("."),
            event.job.queue,
            event.job.type,
        ]:
            raise RefusedMessage("its routing key is not that of its webhook")
        self._check_identity(event)
        return event

    def worker_event(self, received: Received) -> WorkerEvent:
        """Decode a message about a processor."""
        message = decode_worker_event(received.body)
        if isinstance(message, ProcessorAnnounced):
            queues = {*(one.queue for one in message.announcement.types), *message.announcement.missing_queues}
        else:
            queues = {*message.heartbeat.queues, *message.heartbeat.queue_wait}
        self.senders.check(received.user_id, message.fact, queues=queues)
        if not message.subject.startswith(prefix := self.senders.instance_prefix(received.user_id)):
            raise RefusedMessage(f"the name of its processor does not begin with {prefix[:100]!r}")
        _check_properties(received, message)
        _check_key(received.routing_key, message.routing_key)
        return message

    def _check_identity(self, message: AnyJobMessage) -> None:
        """Check that a gateway has let the job run as what the message says that it is."""
        if self._keyring is None or isinstance(message, CancelRequested):  # a request to cancel names no tenant
            return
        if isinstance(message, JobDeleted):
            try:
                self._keyring.verify(message.request.job_id, message.request.tenant)
            except UnknownJobId:
                raise RefusedMessage("its job was never issued to its tenant") from None
        elif not is_granted(message.job, self._keyring):
            raise RefusedMessage("no gateway has let this run of the job run: its grant is missing or another job's")


def _check_properties(received: Received, message: Message) -> None:
    if received.correlation_id != message.subject:
        raise RefusedMessage("its correlation_id is not the id that it is about")
    if received.content_type != CONTENT_TYPE:
        raise RefusedMessage(f"its content_type is not {CONTENT_TYPE}")


def _check_times(event: JobEvent) -> None:
    """Check that nothing has happened in the future, and that the job does not wait for a time out of reach.

    The creation is as good a clock as this one, because the grant covers it: jobs pass where this clock is years
    behind.
    """
    job, put_off = event.job, event.job.put_off
    latest = max(now(), job.created_at) + CLOCK_TOLERANCE
    attempts = (moment for one in job.attempts for moment in (one.started_at, one.ended_at))
    happened = (event.time, job.started_at, job.finished_at, put_off and put_off.since, *attempts)
    if any(moment and moment > latest for moment in happened):
        raise RefusedMessage("it states a time in the future")
    if any(moment and moment > latest + MAX_STATED_DELAY for moment in (job.run_at, put_off and put_off.until)):
        raise RefusedMessage(f"its job waits for a time more than {MAX_STATED_DELAY.days} days away")


def _check_key(key: str, implied: str) -> None:
    """Check that a routing key is the one that the event implies; the bits of a delay may be others.

    A tracker publishes what had no queue with the rest of its delay.
    """
    if key == implied:
        return
    words, implied_words = key.split(".", _WORDS), implied.split(".", _WORDS)
    is_delayed = len(implied_words) > _WORDS and len(words) > _WORDS and _BITS.fullmatch(words[_WORDS])
    has_no_bits = len(implied_words) > _WORDS and len(words) == _WORDS  # its delay was over
    if words[:_WORDS] != implied_words[:_WORDS] or not (is_delayed or has_no_bits):
        raise RefusedMessage("its routing key is not the one that it implies")
