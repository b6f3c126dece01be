"""A login to RabbitMQ that changes nothing."""

import asyncio

import aio_pika
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from yarl import URL

from milepost_rabbit.errors import LoginFailed

LOGIN_TIMEOUT = 5.0


def describe_broker(url: str) -> str:
    """Log in and out again; return the version, the user and the vhost.

    Raises:
        LoginFailed: The broker can't be reached, or refuses the user or the vhost.
    """
    return asyncio.run(_describe(URL(url)))


async def _describe(url: URL) -> str:
    try:
        connection = await aio_pika.connect(url.update_query(name="check"), timeout=LOGIN_TIMEOUT)
    except TimeoutError:
        raise LoginFailed(f"no answer within {LOGIN_TIMEOUT:.0f} s") from None
    except CONNECTION_EXCEPTIONS as error:
        raise LoginFailed(str(error) or repr(error)) from error
    async with connection:
        version = str(connection.transport.connection.server_properties["version"])  # type: ignore[union-attr]
    return f"RabbitMQ {version}, user {url.user or 'guest'}, vhost {url.path[1:] or '/'}"
