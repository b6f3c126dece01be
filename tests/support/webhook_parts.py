"""Fakes of the ports that the tracker's webhooks use."""

from datetime import timedelta

from milepost_tracker.ports.webhook_client import WebhookAnswer
from milepost_tracker.ports.webhook_log import WebhookState

TAKEN = WebhookAnswer(status_code=204, error=None, milliseconds=7)


class FakeEndpoint:
    """A receiver that answers as the test sets."""

    def __init__(self):
        self.answers = []
        self.posted = []

    async def post(self, callback, body, headers):
        self.posted.append((callback, body, headers))
        answer = self.answers.pop(0) if self.answers else TAKEN
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeWebhookLog:
    def __init__(self):
        self.tries = []
        self.sequence = ""
        self.deleted_run = 0
        self.disabled = False
        self.waiting = []

    async def state(self, job):
        return WebhookState(
            sequence=self.sequence, deleted_run=self.deleted_run, disabled=self.disabled, tries=tuple(self.tries)
        )

    async def record(self, job, tried):
        self.tries.append(tried)

    async def record_wait(self, name, until):
        self.waiting.append(name)

    async def disable(self, job, *, disabled):
        self.disabled = disabled


class FakeEventPublisher:
    """Records what is published."""

    def __init__(self):
        self.published = []
        self.poison = []

    async def publish_webhook(self, event, *, after=timedelta(0), tries=0, asked=False, put_off=0):
        self.published.append((event, after, tries, asked))
        self.put_off = put_off

    async def publish_poison(self, body, *, queue, reason):
        self.poison.append((body, queue, reason))
