"""What became of a job's webhooks, sending one again, and the secrets that receivers verify them with."""

from dataclasses import dataclass

from milepost_contracts.errors import MalformedEvent
from milepost_contracts.events import JobEvent, decode_event
from milepost_contracts.values import Job
from milepost_contracts.webhooks import WebhookKeys, WebhookSecrets, WebhookTries
from milepost_gateway.errors import JobNotFinished, NotKnownYet, NoWebhook
from milepost_gateway.ports import Broker, StatusStore, WebhookLog
from milepost_gateway.status import Statuses


@dataclass(frozen=True, kw_only=True)
class Webhooks:
    """The webhooks of one deployment, which the trackers send."""

    statuses: Statuses
    store: StatusStore
    log: WebhookLog
    broker: Broker
    keys: WebhookKeys | None

    async def tries(self, job_id: str, *, tenant: str) -> WebhookTries:
        """Return what became of a job's webhooks.

        Raises:
            JobUnknown, JobExpired, StoreUnavailable, NotKnownYet: As `Statuses.known` does.
            NoWebhook: The job has no callback URL.
        """
        _, snapshot = await self.statuses.known(job_id, tenant=tenant)
        return WebhookTries(url=_url_of(snapshot.job), items=tuple(await self.log.tries(job_id)))

    async def tell_again(self, job_id: str, *, tenant: str) -> str:
        """Have the webhook of a job's end sent once more, whatever became of it, and return its `webhook-id`.

        Raises:
            JobUnknown, JobExpired, StoreUnavailable, NotKnownYet: As `Statuses.known` does.
            NoWebhook: The job has no callback URL.
            JobNotFinished: It has not ended yet.
            NotAccepted, OutcomeUnknown: It is not on its way, or nobody can say; asking again is harmless.
        """
        _, snapshot = await self.statuses.known(job_id, tenant=tenant)
        _url_of(snapshot.job)
        if not snapshot.status.terminal:
            raise JobNotFinished(snapshot.status)
        event = await self._end_of(job_id)
        await self.broker.tell_again(event)
        return event.event_id

    async def _end_of(self, job_id: str) -> JobEvent:
        told = await self.store.told(job_id, 0, latest=True)
        try:
            event = decode_event(told.events[-1].body) if told and told.events else None
        except MalformedEvent:
            event = None
        if not isinstance(event, JobEvent) or not event.status.terminal:
            raise NotKnownYet("what was told of the job's end is not kept any more")
        return event

    def secrets(self, tenant: str) -> WebhookSecrets:
        """Return what a tenant's receivers verify webhooks with.

        Raises:
            NoWebhook: This deployment sends none.
        """
        if self.keys is None:
            raise NoWebhook("This deployment sends no webhooks: it has no MILEPOST_WEBHOOK_KEYS.")
        return WebhookSecrets(items=self.keys.secrets(tenant))


def _url_of(job: Job) -> str:
    if job.callback_url is None:
        raise NoWebhook("It was handed over without a callback_url.")
    return job.callback_url
