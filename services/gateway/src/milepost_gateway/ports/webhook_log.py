"""The tries to send a job's webhooks, read only."""

from collections.abc import Sequence
from typing import Protocol

from milepost_contracts.http.webhooks import WebhookTry


class WebhookLog(Protocol):
    """Reads the deliveries of webhooks."""

    async def tries(self, job_id: str) -> Sequence[WebhookTry]:
        """Return the latest deliveries of a job's webhooks, oldest first.

        Raises:
            StoreUnavailable: It can't be read now.
        """
