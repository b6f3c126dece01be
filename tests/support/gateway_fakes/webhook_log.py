"""The delivery log of webhooks in memory."""

from collections import defaultdict

from milepost_contracts.http.webhooks import WebhookTry


class FakeWebhookLog:
    def __init__(self, view):
        self._view = view
        self.deliveries: dict[str, list[WebhookTry]] = defaultdict(list)

    async def tries(self, job_id):
        self._view.check()
        return self.deliveries[job_id]
