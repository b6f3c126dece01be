"""A message as the broker delivered it: what its receiver decides by whether to believe it."""

from typing import NamedTuple


class Received(NamedTuple):
    """The body of a message, and the AMQP properties that `messages.trust` checks."""

    body: bytes
    routing_key: str
    #: The RabbitMQ user that published it: the broker refuses a wrong one. `None` if the publisher stated none.
    user_id: str | None
    correlation_id: str | None
    content_type: str | None
