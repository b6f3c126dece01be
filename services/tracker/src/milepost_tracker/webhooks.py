"""Delivers webhooks: once each where that can be known, and again and again while a receiver does not take them.

What is not taken waits in the delay ladder, with how often it was tried in its headers, so that it outlives trackers
and Redis; what became of it is told in Redis, for people, and so that a webhook which comes twice is sent once.
"""

import random
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

import structlog
from standardwebhooks import Webhook

from milepost_contracts import webhooks
from milepost_contracts.envelope import now
from milepost_contracts.errors import MalformedEvent, RefusedCallback
from milepost_contracts.events import JobEvent, decode_event
from milepost_contracts.webhooks import RETRY_AFTER, Callback, CallbackRule, Outcome, WebhookKeys, WebhookTry
from milepost_tracker import metrics
from milepost_tracker.ports import Answer, Endpoint, Outbox, WebhookLog, WebhookStory
from milepost_tracker.projector import until_stored

log = structlog.get_logger(__name__)

GONE = 410
MOST_AT_ONCE = {"host": 10, "tenant": 40}
"""A host that answers slowly must not take all the room there is, nor a tenant with many of them."""
ROUNDED_UP_BY = timedelta(seconds=1)
"""The ladder holds a message for whole seconds."""
LONGEST_PUT_OFF = timedelta(minutes=5)
JITTER = 0.1


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A webhook as it comes from the broker."""

    #: The CloudEvent, as it travels.
    body: bytes
    #: How often it was tried before.
    tries: int
    #: Whether somebody wants it sent, whatever became of it before.
    asked: bool = False
    #: How often it was put off since the last try.
    put_off: int = 0


class Webhooks:
    """Tells receivers of the ends of jobs."""

    def __init__(
        self,
        endpoint: Endpoint,
        story: WebhookLog,
        outbox: Outbox,
        *,
        rule: CallbackRule,
        keys: WebhookKeys,
    ) -> None:
        self._endpoint = endpoint
        self._log = story
        self._outbox = outbox
        self._rule = rule
        self._keys = keys
        self._busy = Counter[tuple[str, str]]()

    async def deliver(self, sent: Sent) -> None:
        """Return once the receiver has taken the webhook, or something durable says what comes next."""
        try:
            event = decode_event(sent.body)
        except MalformedEvent as error:
            await self._outbox.keep_poison(sent.body, queue="webhooks", reason=str(error))
            return
        if not isinstance(event, JobEvent) or event.job.callback_url is None:
            await self._outbox.keep_poison(sent.body, queue="webhooks", reason="nobody is to be told of it")
            return
        try:
            await self._settle(event, event.job.callback_url, sent)
        except Exception:
            log.exception("webhook_unsettled", job_id=event.job.id, webhook_id=event.event_id)
            mistake = "a mistake of ours: the tracker's log says more"
            await self._note(event, sent, "failed", error=mistake, again_in=await self._again(event, sent))

    async def _settle(self, event: JobEvent, url: str, sent: Sent) -> None:
        story = await until_stored(lambda: self._log.story(event.job))
        if why := _needless(event, sent, story):
            log.info("webhook_needless", job_id=event.job.id, webhook_id=event.event_id, why=why)
        elif story.disabled and not sent.asked:
            await self._note(event, sent, "disabled")
        else:
            await self._send(event, url, sent, enable=story.disabled)

    async def _send(self, event: JobEvent, url: str, sent: Sent, *, enable: bool) -> None:
        try:
            callback = self._rule.read(url)
            places = (("host", f"{callback.host}:{callback.port}"), ("tenant", event.job.tenant))
            if any(self._busy[place] >= MOST_AT_ONCE[place[0]] for place in places):
                await self._put_off(event, sent)
                return
            self._busy.update(places)
            try:
                answer = await self._post(callback, event)
            finally:
                self._busy.subtract(places)
                self._busy += Counter()  # forgets those with nothing on its way
        except RefusedCallback as error:
            await self._note(event, sent, "refused", error=str(error))
            return
        if answer.taken:
            if enable:
                await until_stored(lambda: self._log.disable(event.job, disabled=False))
            await self._note(event, sent, "delivered", answer=answer)
        elif answer.status_code == GONE:
            await until_stored(lambda: self._log.disable(event.job, disabled=True))
            await self._note(event, sent, "gone", answer=answer)
        else:
            await self._note(event, sent, "failed", answer=answer, again_in=await self._again(event, sent))

    async def _put_off(self, event: JobEvent, sent: Sent) -> None:
        """Let others go first: ever longer, for what waits goes through the whole ladder each time."""
        pause = min(LONGEST_PUT_OFF, timedelta(seconds=2 ** min(sent.put_off + 1, 20))) * random.uniform(0.5, 1)
        await self._wait(event, pause, tries=sent.tries, asked=sent.asked, put_off=sent.put_off + 1)

    async def _wait(self, event: JobEvent, pause: timedelta, *, tries: int, asked: bool, put_off: int = 0) -> None:
        await self._outbox.tell(event, after=pause, tries=tries, asked=asked, put_off=put_off)
        name = f"{event.event_id} {tries} {put_off}"
        await until_stored(lambda: self._log.waits(name, now() + pause + ROUNDED_UP_BY))

    async def _post(self, callback: Callback, event: JobEvent) -> Answer:
        body = webhooks.render(event)
        return await self._endpoint.post(callback, body, self._signed(event, body))

    def _signed(self, event: JobEvent, body: bytes) -> dict[str, str]:
        """Return the headers that prove a webhook: a signature for each secret, so that receivers can change theirs."""
        at = now()
        secrets = self._keys.secrets(event.job.tenant)
        signatures = [Webhook(secret).sign(event.event_id, at, body.decode()) for secret in secrets]
        return {
            "webhook-id": event.event_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }

    async def _again(self, event: JobEvent, sent: Sent) -> timedelta | None:
        """Have the webhook tried again, and return after how long; nothing if it is given up."""
        if sent.tries >= len(RETRY_AFTER):
            return None
        pause = RETRY_AFTER[sent.tries] * random.uniform(1 - JITTER, 1 + JITTER)
        await self._wait(event, pause, tries=sent.tries + 1, asked=sent.asked)
        return pause

    async def _note(
        self,
        event: JobEvent,
        sent: Sent,
        outcome: Outcome,
        *,
        answer: Answer | None = None,
        error: str | None = None,
        again_in: timedelta | None = None,
    ) -> None:
        """Keep what became of a try, once what follows on it is durable: who finds it need not do it again."""
        at = now()
        tried = WebhookTry(
            webhook_id=event.event_id,
            event=event.fact.removeprefix("job."),
            number=sent.tries + 1,
            asked=sent.asked,
            at=at,
            outcome=outcome,
            status_code=answer.status_code if answer else None,
            error=answer.error if answer else error,
            duration_ms=answer.milliseconds if answer else None,
            next_at=at + again_in if again_in else None,
        )
        metrics.webhooks.labels(outcome=outcome).inc()
        if outcome != "delivered":
            told = tried.model_dump(mode="json", exclude={"event", "at"}, exclude_none=True)
            log.warning("webhook_not_delivered", job_id=event.job.id, **told)
        await until_stored(lambda: self._log.record(event.job, tried))


def _needless(event: JobEvent, sent: Sent, story: WebhookStory) -> str | None:
    """Return why nobody is to be told of this now, if so."""
    run = event.job.run
    if story.forgotten >= run:
        return "the job is forgotten"
    if sent.asked and not sent.tries:
        return None
    if story.sequence > event.sequence and story.run == run:
        return "another end of the same run has won"
    before = [one for one in story.tries if one.webhook_id == event.event_id]
    if sent.asked:  # what became of it before somebody asked does not count
        before = before[max((at for at, one in enumerate(before) if one.asked and one.number == 1), default=0) :]
    if any(one.outcome == "delivered" for one in before):
        return "it was delivered"
    if any(one.asked == sent.asked and one.number > sent.tries for one in before):
        return "it was tried before"
    return None
