"""Errors of the communication with the broker.

RabbitError
├── NotAccepted        the broker certainly did not store the message
├── OutcomeUnknown     no publisher confirm; the broker may have stored the message
│   └── Refused        a queue refused the message; other queues may have stored it
├── LoginFailed        the broker can't be reached, or refuses the user or the vhost
├── TopologyMismatch   a queue or exchange exists with other arguments
└── TopologyMissing    an exchange does not exist
"""


class RabbitError(Exception):
    """The broker did not do what was requested."""


class NotAccepted(RabbitError):  # noqa: N818 - named after the problem that HTTP answers with
    """The broker certainly did not store the message."""


class OutcomeUnknown(RabbitError):  # noqa: N818
    """No publisher confirm in time; the broker may have stored the message."""


class Refused(OutcomeUnknown):
    """At least one queue refused the message, for example because it is full; the others may have stored it."""


class TopologyMismatch(RabbitError):  # noqa: N818
    """A queue or exchange exists at the broker with other arguments."""


class LoginFailed(RabbitError):  # noqa: N818
    """The broker can't be reached, or refuses the user or the vhost."""


class TopologyMissing(RabbitError):  # noqa: N818
    """An exchange does not exist at the broker."""
