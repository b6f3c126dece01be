"""Posts webhooks to their receivers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from milepost_contracts.http.callback_urls import CallbackUrl


@dataclass(frozen=True, kw_only=True)
class WebhookAnswer:
    """The receiver's answer to a webhook."""

    #: Nothing if there was no answer.
    status_code: int | None
    #: Why there was none.
    error: str | None
    milliseconds: int

    @property
    def accepted(self) -> bool:
        """Whether the receiver has accepted it: any 2xx."""
        return self.status_code is not None and 200 <= self.status_code < 300  # noqa: PLR2004


class WebhookClient(Protocol):
    """Posts webhooks."""

    async def post(self, callback: CallbackUrl, body: bytes, headers: Mapping[str, str]) -> WebhookAnswer:
        """Return what the receiver answered, or why it did not, within 15 s.

        Raises:
            RefusedCallback: The URL, or an address of its host, may not be called.
        """
