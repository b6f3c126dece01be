"""The delivery attempts of a job's webhooks, their redelivery, and the secrets that verify them."""

from dataclasses import dataclass

from milepost_contracts.errors import MalformedEvent
from milepost_contracts.http.webhooks import WebhookKeys, WebhookSecrets, WebhookTries
from milepost_contracts.messages.job_events import JobEvent, decode_event
from milepost_contracts.values import Job
from milepost_gateway.core.status import Statuses
from milepost_gateway.errors import JobNotFinished, NotKnownYet, NoWebhook
from milepost_gateway.ports.broker import Broker
from milepost_gateway.ports.status_store import StatusStore
from milepost_gateway.ports.webhook_log import WebhookLog


@dataclass(frozen=True, kw_only=True)
class Webhooks:
    """The webhooks of one deployment, which the trackers send."""

    statuses: Statuses
    store: StatusStore
    log: WebhookLog
    broker: Broker
    keys: WebhookKeys | None

    async def tries(self, job_id: str, *, tenant: str) -> WebhookTries:
        """Return the delivery attempts of a job's webhooks.

        Raises:
            JobUnknown, JobExpired, StoreUnavailable, NotKnownYet: As `Statuses.known` does.
            NoWebhook: The job has no callback URL.
        """
        _, snapshot = await self.statuses.known(job_id, tenant=tenant)
        return WebhookTries(url=_callback_url(snapshot.job), items=tuple(await self.log.tries(job_id)))

    async def publish_webhook(self, job_id: str, *, tenant: str) -> str:
        """Publish the webhook of a job's end again, whatever its last outcome, and return its `webhook-id`.

        Raises:
            JobUnknown, JobExpired, StoreUnavailable, NotKnownYet: As `Statuses.known` does.
            NoWebhook: The job has no callback URL.
            JobNotFinished: It has not ended yet.
            NotAccepted, OutcomeUnknown: It is not stored, or that can't be known; repeating is harmless.
        """
        _, snapshot = await self.statuses.known(job_id, tenant=tenant)
        _callback_url(snapshot.job)
        if not snapshot.status.terminal:
            raise JobNotFinished(snapshot.status)
        event = await self._terminal_event(job_id)
        await self.broker.publish_webhook(event)
        return event.event_id

    async def _terminal_event(self, job_id: str) -> JobEvent:
        events = await self.store.events(job_id, 0, latest=True)
        try:
            event = decode_event(events.events[-1].body) if events and events.events else None
        except MalformedEvent:
            event = None
        if not isinstance(event, JobEvent) or not event.status.terminal:
            raise NotKnownYet("the event of the job's end is no longer kept")
        return event

    def secrets(self, tenant: str) -> WebhookSecrets:
        """Return the secrets that verify a tenant's webhooks.

        Raises:
            NoWebhook: This deployment sends none.
        """
        if self.keys is None:
            raise NoWebhook("This deployment sends no webhooks: it has no MILEPOST_WEBHOOK_KEYS.")
        return WebhookSecrets(items=self.keys.secrets(tenant))


def _callback_url(job: Job) -> str:
    if job.callback_url is None:
        raise NoWebhook("The job was submitted without a callback_url.")
    return job.callback_url
