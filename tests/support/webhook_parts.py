"""Fakes of what a tracker's webhooks need of the world."""

from datetime import timedelta

from milepost_tracker.ports import Answer, WebhookStory

TAKEN = Answer(status_code=204, error=None, milliseconds=7)


class FakeEndpoint:
    """A receiver; answers as the test wants."""

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
        self.forgotten = 0
        self.disabled = False
        self.waiting = []

    async def story(self, job):
        return WebhookStory(
            sequence=self.sequence, forgotten=self.forgotten, disabled=self.disabled, tries=tuple(self.tries)
        )

    async def record(self, job, tried):
        self.tries.append(tried)

    async def waits(self, name, until):
        self.waiting.append(name)

    async def disable(self, job, *, disabled):
        self.disabled = disabled


class FakeOutbox:
    """Keeps what is said."""

    def __init__(self):
        self.told = []
        self.poison = []

    async def tell(self, event, *, after=timedelta(0), tries=0, asked=False, put_off=0):
        self.told.append((event, after, tries, asked))
        self.put_off = put_off

    async def keep_poison(self, body, *, queue, reason):
        self.poison.append((body, queue, reason))
