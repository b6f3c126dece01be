"""Reads what is believed of a message of aio-pika."""

from aio_pika.abc import AbstractIncomingMessage

from milepost_contracts.messages.received import Received


def received(message: AbstractIncomingMessage) -> Received:
    """Return the message as the broker delivered it."""
    return Received(
        body=message.body,
        routing_key=message.routing_key or "",
        user_id=message.user_id,
        correlation_id=message.correlation_id,
        content_type=message.content_type,
    )
