"""Name resolution for callback URLs."""

from collections.abc import Sequence
from typing import Protocol

from milepost_contracts.http.callback_urls import Address, CallbackUrl


class HostResolver(Protocol):
    """Resolves the hosts of callback URLs. Implemented by `milepost_service.callback_urls.Resolver`."""

    async def addresses(self, callback: CallbackUrl) -> Sequence[Address]:
        """Return the addresses that the URL's host has now.

        Raises:
            RefusedCallback: One of them may not be called.
            HostNotFound: The host has no address, or name resolution failed.
        """
