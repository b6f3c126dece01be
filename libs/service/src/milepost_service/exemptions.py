"""What a service refuses to start with, unless `MILEPOST_ALLOW` names it."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated
from urllib.parse import unquote

from pydantic import AnyUrl, BeforeValidator
from pydantic_settings import NoDecode

from milepost_contracts.server_urls import is_local, user_of
from milepost_service.lists import split_words

MIN_PASSWORD = 16
"""The minimum length of a password that protects a server beyond loopback."""


class Exemption(StrEnum):
    """A risk that the operator has accepted by name."""

    #: RabbitMQ's user guest, whose password everybody knows.
    GUEST = "guest"
    #: RabbitMQ beyond loopback without TLS.
    PLAIN_AMQP = "plain-amqp"
    #: Redis beyond loopback without TLS.
    PLAIN_REDIS = "plain-redis"
    #: A Redis that deletes keys when its memory is full.
    EVICTING_REDIS = "evicting-redis"
    #: A password of a server beyond loopback that is missing or short.
    SHORT_SECRETS = "short-secrets"
    #: Variables that begin like a setting, and are none.
    UNKNOWN_SETTINGS = "unknown-settings"
    #: An event log that may fill the broker's disk.
    UNLIMITED_LOG = "unlimited-log"


Exemptions = Annotated[frozenset[Exemption], NoDecode, BeforeValidator(split_words)]


@dataclass(frozen=True)
class Risk:
    """A reason not to start."""

    exemption: Exemption
    #: What is wrong, and what to do.
    sentence: str

    def __str__(self) -> str:
        return f"{self.sentence}, or add {self.exemption} to MILEPOST_ALLOW"


def server_risks(rabbitmq: AnyUrl, redis: AnyUrl) -> Iterator[Risk]:
    """Return the risks in the URLs of the servers."""
    if user_of(rabbitmq) == "guest":
        yield Risk(
            Exemption.GUEST,
            "MILEPOST_RABBITMQ_URL: it logs in as guest, whose password everybody knows: create a user for Milepost",
        )
    if rabbitmq.scheme == "amqp" and not is_local(rabbitmq):
        yield Risk(
            Exemption.PLAIN_AMQP,
            f"MILEPOST_RABBITMQ_URL: amqp sends the password and every job to {rabbitmq.host} unencrypted: use amqps",
        )
    if redis.scheme == "redis" and not is_local(redis):
        yield Risk(
            Exemption.PLAIN_REDIS,
            f"MILEPOST_REDIS_URL: redis sends the password and every status to {redis.host} unencrypted: use rediss",
        )
    for name, url in (("MILEPOST_RABBITMQ_URL", rabbitmq), ("MILEPOST_REDIS_URL", redis)):
        length = len(unquote(url.password or ""))
        if length < MIN_PASSWORD and not is_local(url):
            has = f"a password of {length} characters" if length else "no password"
            yield Risk(
                Exemption.SHORT_SECRETS, f"{name}: it has {has}: set one of {MIN_PASSWORD} or more random characters"
            )
