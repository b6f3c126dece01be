"""Messages as a service publishes them with aio-pika."""

import aio_pika
from trusted import OPERATOR, believed

from milepost_contracts.messages.cloudevent import CONTENT_TYPE, encode


def published(message, user=OPERATOR):
    """Return a message as it is published over a connection of this user."""
    message = believed(message)
    return aio_pika.Message(
        encode(message),
        user_id=user,
        correlation_id=message.subject,
        content_type=CONTENT_TYPE,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
