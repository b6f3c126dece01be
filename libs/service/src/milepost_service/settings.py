"""Settings from the environment, prefix `MILEPOST_`. An invalid one is reported in one sentence, with exit code 2."""

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Literal, NoReturn, TypeVar

from pydantic import AnyUrl, BeforeValidator, Field, UrlConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from milepost_contracts.messages.topology import DELIVERY_LIMIT, MAX_DELIVERIES

PREFIX = "MILEPOST_"
EXIT_MISCONFIGURED = 2

RabbitUrl = Annotated[AnyUrl, UrlConstraints(allowed_schemes=["amqp", "amqps"])]
RedisUrl = Annotated[AnyUrl, UrlConstraints(allowed_schemes=["redis", "rediss"])]


def _seconds(value: object) -> object:
    """Read a plain number as seconds: pydantic parses text only as ISO 8601."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


#: A duration: seconds, or ISO 8601 (`PT30S`, `P7D`).
Duration = Annotated[timedelta, BeforeValidator(_seconds)]
#: The URL of the blob storage: a folder, or an object store that obstore supports.
BlobsUrl = Annotated[str, Field(pattern=r"^(file:///|(s3|s3a|gs|az|adl|abfss?|https?)://[^/])")]


class ServiceSettings(BaseSettings):
    """Settings of all services. Each service has one frozen subclass."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    rabbitmq_url: RabbitUrl = AnyUrl("amqp://guest:guest@127.0.0.1:5672/")
    """URL of RabbitMQ."""
    redis_url: RedisUrl = AnyUrl("redis://127.0.0.1:6379/0")
    """URL of Redis."""
    namespace: str = Field(default="milepost", pattern=r"^[a-z][a-z0-9-]{0,31}$")
    """Prefix of every name in RabbitMQ and Redis, so that deployments can share both."""
    retention: Duration = Field(default=timedelta(days=7), ge=timedelta(seconds=1), le=timedelta(days=365))
    """How long a job is kept after it ended. It must be the same for gateway, processor and tracker."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """`console`, `json`, or `auto`: console if standard error is a terminal, JSON otherwise."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class QueueSettings(ServiceSettings):
    """Settings of the services that declare and consume the queues of jobs."""

    delivery_limit: int = Field(default=DELIVERY_LIMIT, ge=1, le=MAX_DELIVERIES - 2)
    """How often a job whose worker died is delivered again before it goes to quarantine. The same for tracker and
    processor."""


class SettingsError(Exception):
    """A setting is invalid or can't be used."""


S = TypeVar("S", bound=ServiceSettings)


def load(settings: Callable[[], S]) -> S:
    """Read the settings.

    Raises:
        SettingsError: A setting is invalid. The message names the first such variable, and does not contain its value.
    """
    try:
        return settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{PREFIX}{name}: {message}" if name else message) from error


def exit_misconfigured(message: str) -> NoReturn:
    """Print the message to standard error and exit with code 2."""
    print_misconfigured(message)
    raise SystemExit(EXIT_MISCONFIGURED)


def print_misconfigured(message: str) -> None:
    """Print the message to standard error, as every service does before it exits with `EXIT_MISCONFIGURED`."""
    print(f"milepost: {message}", file=sys.stderr)  # noqa: T201 - the logs may not be set up yet
