"""Delivers webhooks: repeats each until its receiver accepts it, and avoids duplicates where it can.

A webhook that was not accepted waits in the delay levels, with the number of tries in its headers, so it outlives
trackers and Redis. Redis has a log of the tries, for people, and so that a redelivered webhook is not sent twice.
"""

import random
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

import structlog
from standardwebhooks import Webhook

from milepost_contracts.clock import now
from milepost_contracts.errors import RefusedCallback, RefusedMessage
from milepost_contracts.http import webhooks
from milepost_contracts.http.callback_urls import CallbackPolicy, CallbackUrl
from milepost_contracts.http.webhooks import RETRY_DELAYS, Outcome, WebhookKeys, WebhookTry
from milepost_contracts.messages.job_events import JobEvent
from milepost_contracts.messages.received import Received
from milepost_contracts.messages.trust import Trust
from milepost_contracts.states import Status
from milepost_contracts.values import Job
from milepost_tracker import metrics
from milepost_tracker.core.projector import FAULTS, note_fault, until_stored
from milepost_tracker.ports.event_publisher import EventPublisher
from milepost_tracker.ports.status_store import StatusStore
from milepost_tracker.ports.webhook_client import WebhookAnswer, WebhookClient
from milepost_tracker.ports.webhook_log import WebhookLog, WebhookState

log = structlog.get_logger(__name__)

GONE = 410
MAX_CONCURRENT_PER = {"host": 10, "tenant": 40}
"""A host that answers slowly must not take all places, nor a tenant with many of them."""
LEVEL_ROUNDING = timedelta(seconds=1)
"""The delay levels hold a message for whole seconds."""
MAX_POSTPONEMENT = timedelta(minutes=5)
RETRY_JITTER = 0.1


@dataclass(frozen=True, kw_only=True)
class QueuedWebhook:
    """A webhook that was delivered by the broker."""

    #: The CloudEvent, as it travels.
    received: Received
    #: How often it was tried before.
    tries: int
    #: Whether a redelivery was requested: it is sent even if an earlier try was accepted or got a 410.
    asked: bool = False
    #: How often it was postponed since the last try.
    put_off: int = 0


class Webhooks:
    """Sends the webhooks of ended jobs to their receivers."""

    def __init__(
        self,
        client: WebhookClient,
        webhook_log: WebhookLog,
        publisher: EventPublisher,
        status: StatusStore,
        *,
        trust: Trust,
        policy: CallbackPolicy,
        keys: WebhookKeys,
    ) -> None:
        self._client = client
        self._log = webhook_log
        self._publisher = publisher
        self._status = status
        self._trust = trust
        self._policy = policy
        self._keys = keys
        self._busy = Counter[tuple[str, str]]()

    async def deliver(self, queued: QueuedWebhook) -> None:
        """Return once the receiver has accepted the webhook, or its next try is durable."""
        try:
            event = self._trust.webhook(queued.received)
            if queued.received.user_id not in self._trust.senders.trackers:
                await self._check_end(event)
        except FAULTS as error:
            reason = note_fault(error, queue="webhooks")
            await self._publisher.publish_poison(queued.received.body, queue="webhooks", reason=reason)
            return
        try:
            await self._deliver(event, event.job.callback_url or "", queued)
        except Exception:
            log.exception("webhook_delivery_failed", job_id=event.job.id, webhook_id=event.event_id)
            message = "an error in the tracker: see its log"
            await self._record(
                event, queued, "failed", error=message, retry_in=await self._schedule_retry(event, queued)
            )

    async def _check_end(self, event: JobEvent) -> None:
        """Check that the view has this end: a gateway requests that it be sent again, and may not invent one.

        Raises:
            RefusedMessage: It has another one, or none.
        """
        stored = await until_stored(lambda: self._status.jobs([event.job.id]))
        if _end_of(event.status, event.job) not in [_end_of(known.status, known.job) for known in stored]:
            raise RefusedMessage("the status view has no such end of the job")

    async def _deliver(self, event: JobEvent, url: str, queued: QueuedWebhook) -> None:
        state = await until_stored(lambda: self._log.state(event.job))
        if why := _why_skip(event, queued, state):
            log.info("webhook_skipped", job_id=event.job.id, webhook_id=event.event_id, reason=why)
        elif state.disabled and not queued.asked:
            await self._record(event, queued, "disabled")
        else:
            await self._send(event, url, queued, enable=state.disabled)

    async def _send(self, event: JobEvent, url: str, queued: QueuedWebhook, *, enable: bool) -> None:
        try:
            callback = self._policy.read(url)
            places = (("host", f"{callback.host}:{callback.port}"), ("tenant", event.job.tenant))
            if any(self._busy[place] >= MAX_CONCURRENT_PER[place[0]] for place in places):
                await self._put_off(event, queued)
                return
            self._busy.update(places)
            try:
                answer = await self._post(callback, event)
            finally:
                self._busy.subtract(places)
                self._busy += Counter()  # drops entries of zero
        except RefusedCallback as error:
            await self._record(event, queued, "refused", error=str(error))
            return
        if answer.accepted:
            if enable:
                await until_stored(lambda: self._log.disable(event.job, disabled=False))
            await self._record(event, queued, "delivered", answer=answer)
        elif answer.status_code == GONE:
            await until_stored(lambda: self._log.disable(event.job, disabled=True))
            await self._record(event, queued, "gone", answer=answer)
        else:
            await self._record(
                event, queued, "failed", answer=answer, retry_in=await self._schedule_retry(event, queued)
            )

    async def _put_off(self, event: JobEvent, queued: QueuedWebhook) -> None:
        """Postpone the webhook, ever longer: each wait goes through all delay levels."""
        pause = min(MAX_POSTPONEMENT, timedelta(seconds=2 ** min(queued.put_off + 1, 20))) * random.uniform(0.5, 1)
        await self._wait(event, pause, tries=queued.tries, asked=queued.asked, put_off=queued.put_off + 1)

    async def _wait(self, event: JobEvent, pause: timedelta, *, tries: int, asked: bool, put_off: int = 0) -> None:
        await self._publisher.publish_webhook(event, after=pause, tries=tries, asked=asked, put_off=put_off)
        name = f"{event.event_id} {tries} {put_off}"
        await until_stored(lambda: self._log.record_wait(name, now() + pause + LEVEL_ROUNDING))

    async def _post(self, callback: CallbackUrl, event: JobEvent) -> WebhookAnswer:
        body = webhooks.render(event)
        return await self._client.post(callback, body, self._signed(event, body))

    def _signed(self, event: JobEvent, body: bytes) -> dict[str, str]:
        """Return the headers that authenticate a webhook: one signature a secret, so that secrets can be rotated."""
        at = now()
        secrets = self._keys.secrets(event.job.tenant)
        signatures = [Webhook(secret).sign(event.event_id, at, body.decode()) for secret in secrets]
        return {
            "webhook-id": event.event_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }

    async def _schedule_retry(self, event: JobEvent, queued: QueuedWebhook) -> timedelta | None:
        """Schedule the next try, and return after how long; nothing if this was the last one."""
        if queued.tries >= len(RETRY_DELAYS):
            return None
        pause = RETRY_DELAYS[queued.tries] * random.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)
        await self._wait(event, pause, tries=queued.tries + 1, asked=queued.asked)
        return pause

    async def _record(
        self,
        event: JobEvent,
        queued: QueuedWebhook,
        outcome: Outcome,
        *,
        answer: WebhookAnswer | None = None,
        error: str | None = None,
        retry_in: timedelta | None = None,
    ) -> None:
        """Record a try, once its next try is durable: a tracker that finds the record need not repeat it."""
        at = now()
        tried = WebhookTry(
            webhook_id=event.event_id,
            event=event.fact.removeprefix("job."),
            number=queued.tries + 1,
            asked=queued.asked,
            at=at,
            outcome=outcome,
            status_code=answer.status_code if answer else None,
            error=answer.error if answer else error,
            duration_ms=answer.milliseconds if answer else None,
            next_at=at + retry_in if retry_in else None,
        )
        metrics.webhooks.labels(outcome=outcome).inc()
        if outcome != "delivered":
            fields = tried.model_dump(mode="json", exclude={"event", "at"}, exclude_none=True)
            log.warning("webhook_not_delivered", job_id=event.job.id, **fields)
        await until_stored(lambda: self._log.record(event.job, tried))


def _end_of(status: Status, job: Job) -> tuple[object, ...]:
    """Return what a webhook says of an end, and to whom."""
    return status, job.run, job.tenant, job.callback_url, job.result, job.result_file, job.outputs, job.error


def _why_skip(event: JobEvent, queued: QueuedWebhook, state: WebhookState) -> str | None:
    """Return why this webhook is not to be sent now, if so."""
    run = event.job.run
    if state.deleted_run >= run:
        return "the job was deleted"
    if queued.asked and not queued.tries:
        return None
    if state.sequence > event.sequence and state.run == run:
        return "the run has another end by now"
    before = [one for one in state.tries if one.webhook_id == event.event_id]
    if queued.asked:  # tries before the redelivery was requested do not count
        before = before[max((at for at, one in enumerate(before) if one.asked and one.number == 1), default=0) :]
    if any(one.outcome == "delivered" for one in before):
        return "it was delivered already"
    if any(one.asked == queued.asked and one.number > queued.tries for one in before):
        return "this try was made already"
    return None
