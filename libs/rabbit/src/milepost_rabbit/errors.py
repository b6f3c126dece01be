"""What can go wrong between us and the broker.

RabbitError
├── NotAccepted        the broker did not take the message: certain
├── OutcomeUnknown     no confirm came; the broker may have stored it
└── TopologyMismatch   a queue or exchange exists otherwise than we declare it, or is missing
"""


class RabbitError(Exception):
    """The broker did not do as asked."""


class NotAccepted(RabbitError):  # noqa: N818 - named after the problem that HTTP answers with
    """The broker did not take the message."""


class OutcomeUnknown(RabbitError):  # noqa: N818
    """The broker did not say in time whether it took the message."""


class TopologyMismatch(RabbitError):  # noqa: N818
    """What exists at the broker is not what the topology says."""
