"""Settings from the environment, prefix `MILEPOST_`. What is wrong with them is one sentence and exit code 2."""

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Literal, NoReturn, TypeVar

from pydantic import AnyUrl, BeforeValidator, Field, UrlConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "MILEPOST_"
EXIT_MISCONFIGURED = 2

RabbitUrl = Annotated[AnyUrl, UrlConstraints(allowed_schemes=["amqp", "amqps"])]
RedisUrl = Annotated[AnyUrl, UrlConstraints(allowed_schemes=["redis", "rediss"])]


def _seconds(value: object) -> object:
    """Take a bare number as seconds: pydantic reads text as ISO 8601 alone."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


#: A length of time: seconds, or ISO 8601 (`PT30S`, `P7D`).
Length = Annotated[timedelta, BeforeValidator(_seconds)]
#: Where files are: a folder, or object storage, as obstore knows them.
BlobsUrl = Annotated[str, Field(pattern=r"^(file:///|(s3|s3a|gs|az|adl|abfss?|https?)://[^/])")]


class ServiceSettings(BaseSettings):
    """What all services read. Each service has one frozen subclass."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    #: Where RabbitMQ is.
    rabbitmq_url: RabbitUrl = AnyUrl("amqp://guest:guest@127.0.0.1:5672/")
    #: Where Redis is.
    redis_url: RedisUrl = AnyUrl("redis://127.0.0.1:6379/0")
    #: Put before every name at the broker and in Redis, so that deployments can share both.
    namespace: str = Field(default="milepost", pattern=r"^[a-z][a-z0-9-]{0,31}$")
    #: How long a job can be looked up after it ended. The same for gateway and tracker.
    retention: Length = Field(default=timedelta(days=7), ge=timedelta(seconds=1), le=timedelta(days=365))
    #: `console` for people, `json` for machines, `auto` for whichever reads it.
    log_format: Literal["auto", "console", "json"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class SettingsError(Exception):
    """The settings can't be used."""


S = TypeVar("S", bound=ServiceSettings)


def load(settings: Callable[[], S]) -> S:
    """Read the settings.

    Raises:
        SettingsError: With one sentence that names the variable and what is wrong; secrets are not repeated.
    """
    try:
        return settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{PREFIX}{name}: {message}" if name else message) from error


def exit_misconfigured(message: str) -> NoReturn:
    """Say on standard error what is wrong with the configuration, and exit with code 2."""
    print(f"milepost: {message}", file=sys.stderr)  # noqa: T201 - the logs are not set up yet
    raise SystemExit(EXIT_MISCONFIGURED)
