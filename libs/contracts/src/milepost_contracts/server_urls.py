"""The URLs of RabbitMQ and Redis. What their clients would read differently, or not at all, is refused."""

import re
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator, AnyUrl, UrlConstraints

from milepost_contracts.http.access import is_loopback


def _check_server(url: AnyUrl) -> AnyUrl:
    if not url.host or url.port == 0:
        raise ValueError(f"it names no host, or port 0: write {url.scheme}://USER:PASSWORD@HOST:PORT/")
    if "," in url.host:
        raise ValueError("it names several hosts: name one, for example that of a load balancer")
    if url.username and not url.password:
        raise ValueError("it names a user without a password: write USER:PASSWORD@")
    if url.query is not None or url.fragment is not None:
        raise ValueError(
            "options (?…) and fragments (#…) are not supported: remove them, and write ? and # in a password as %3F "
            "and %23 (a private certificate authority is named by the variable SSL_CERT_FILE)"
        )
    return url


def _check_rabbitmq(url: AnyUrl) -> AnyUrl:
    if url.password and not url.username:
        raise ValueError("it has a password without a user: write USER:PASSWORD@")
    if "/" in (url.path or "/")[1:]:
        raise ValueError("after the host it has more than one '/': write each '/' in the name of the vhost as %2F")
    return url


def _check_redis(url: AnyUrl) -> AnyUrl:
    if not re.fullmatch(r"(/[0-9]{0,9})?", url.path or ""):
        raise ValueError("what follows the host is not the number of a database: write /0")
    return url


def _server_url(*schemes: str) -> UrlConstraints:
    return UrlConstraints(allowed_schemes=list(schemes))


RabbitUrl = Annotated[
    AnyUrl, _server_url("amqp", "amqps"), AfterValidator(_check_server), AfterValidator(_check_rabbitmq)
]
RedisUrl = Annotated[
    AnyUrl, _server_url("redis", "rediss"), AfterValidator(_check_server), AfterValidator(_check_redis)
]


def is_local(url: AnyUrl) -> bool:
    """Whether the host is this machine's loopback. A name other than `localhost` is not, whatever it resolves to."""
    return is_loopback((url.host or "").strip("[]").lower())


def user_of(url: AnyUrl) -> str:
    """Return the user that logs in to RabbitMQ; without one, its clients use `guest`."""
    return unquote(url.username or "guest")


def without_password(url: AnyUrl) -> str:
    """Return the URL as it may be shown."""
    shown = str(url)
    return shown if url.password is None else shown.replace(f":{url.password}@", ":***@", 1)
