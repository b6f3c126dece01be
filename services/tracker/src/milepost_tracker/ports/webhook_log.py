"""The deliveries of webhooks."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from milepost_contracts.http.webhooks import WebhookTry
from milepost_contracts.values import Job


@dataclass(frozen=True, kw_only=True)
class WebhookState:
    """What is known of a job's webhooks."""

    #: The sequence of the job's latest event; empty if it is not known.
    sequence: str
    #: The run up to which the job was deleted.
    deleted_run: int
    #: Whether its callback URL has answered 410.
    disabled: bool
    #: The deliveries so far, oldest first.
    tries: tuple[WebhookTry, ...]

    @property
    def run(self) -> int:
        """The run of the latest event."""
        return int(self.sequence.partition(".")[0] or 0)


class WebhookLog(Protocol):
    """Records deliveries of webhooks. Every call may raise `StoreUnavailable`; repeating any of them is harmless."""

    async def state(self, job: Job) -> WebhookState:
        """Return what is known of a job's webhooks."""

    async def record(self, job: Job, tried: WebhookTry) -> None:
        """Record a try to deliver a webhook."""

    async def record_wait(self, name: str, until: datetime) -> None:
        """Record that a webhook waits in the delay levels, where it must not be counted as a job."""

    async def disable(self, job: Job, *, disabled: bool) -> None:
        """Record that the job's callback URL gets no more webhooks, or that it does again."""
