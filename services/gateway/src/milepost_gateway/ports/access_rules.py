"""Who may do what."""

from typing import Protocol

from milepost_contracts.http.access import Access


class AccessRules(Protocol):
    """The API keys, token issuers and limits in force."""

    def current(self) -> Access:
        """Return the rules that are in force now."""
