"""The errors of the contracts.

ContractError
├── UnknownJobId        an id that this deployment never issued to this tenant
├── WeakKeyring         signing keys that are missing, short or ambiguous
├── RefusedCallback     a URL that may not be called back
└── MalformedEvent      a message that is not one of Milepost's events
    ├── UnknownEvent    well formed, but of a type or version that this release does not know
    └── RefusedMessage  well formed, but not from who may state it, or about what no gateway has let run
"""


class ContractError(Exception):
    """A value violates Milepost's contracts."""


class UnknownJobId(ContractError):  # noqa: N818 - the names are the conditions, as in redis-py and httpx
    """This job id was never issued."""


class WeakKeyring(ContractError):  # noqa: N818
    """The signing keys can't be used."""


class RefusedCallback(ContractError):  # noqa: N818
    """This URL may not be called back."""


class MalformedEvent(ContractError):  # noqa: N818
    """This message is not an event of Milepost's."""


class UnknownEvent(MalformedEvent):
    """This event's type or version is not known here."""


class RefusedMessage(MalformedEvent):
    """This message is not believed: its sender may not state it, or its properties or its job are not what they say."""
