"""Settings from the environment, prefix `MILEPOST_`. An invalid one is reported in one sentence, with exit code 2."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Literal, NoReturn, TypeVar

from pydantic import AnyUrl, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from milepost_contracts.messages.topology import DELIVERY_LIMIT, MAX_DELIVERIES
from milepost_contracts.server_urls import RabbitUrl, RedisUrl
from milepost_contracts.values import Namespace
from milepost_service.exemptions import Exemptions, Risk, server_risks
from milepost_service.known_settings import PREFIX, unknown_settings
from milepost_service.secret_files import SecretFiles, UnreadableSecret

EXIT_MISCONFIGURED = 2


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
    namespace: Namespace = "milepost"
    """Prefix of every name in RabbitMQ and Redis, so that deployments can share both."""
    retention: Duration = Field(default=timedelta(days=7), ge=timedelta(seconds=1), le=timedelta(days=365))
    """How long a job is kept after it ended. It must be the same for gateway, processor and tracker."""
    metrics_token: SecretStr | None = Field(default=None, min_length=16)
    """If set, `/metrics` answers only requests with `Authorization: Bearer` and this token."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """`console`, `json`, or `auto`: console if standard error is a terminal, JSON otherwise."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    allow: Exemptions = frozenset()
    """What the service refuses to start with otherwise, separated by commas."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, files of secrets, then variables."""
        del dotenv_settings, file_secret_settings
        return init_settings, SecretFiles(settings_cls), env_settings

    def risks(self) -> Iterator[Risk]:
        """Return the reasons not to start, allowed or not."""
        return server_risks(self.rabbitmq_url, self.redis_url)


class QueueSettings(ServiceSettings):
    """Settings of the services that declare and consume the queues of jobs."""

    delivery_limit: int = Field(default=DELIVERY_LIMIT, ge=1, le=MAX_DELIVERIES - 2)
    """How often a job whose worker died is delivered again before it goes to quarantine. The same for tracker and
    processor."""


class SettingsError(Exception):
    """A setting is invalid or can't be used."""

    def __init__(self, problem: str, *more: str) -> None:
        super().__init__(problem)
        #: One sentence each; the first is the message.
        self.problems = (problem, *more)


S = TypeVar("S", bound=ServiceSettings)


def load(settings: Callable[[], S]) -> S:
    """Read the settings.

    Raises:
        SettingsError: A setting is invalid, unknown or unsafe. The message names the variable, and does not contain its
            value.
    """
    problems = unknown_settings(os.environ)
    try:
        loaded = settings()
    except UnreadableSecret as error:
        raise SettingsError(*problems, str(error)) from error
    except ValidationError as error:
        problems += [_sentence(one) for one in error.errors(include_input=False, include_url=False)]
        raise SettingsError(*problems) from error
    problems += [str(risk) for risk in loaded.risks() if risk.exemption not in loaded.allow]
    if problems:
        raise SettingsError(*problems)
    return loaded


def _sentence(error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ")
    match error["type"]:
        case "url_parsing":
            message += "; write each of / ? # @ : % in a user or password percent-encoded, '/' as %2F"
        case "time_delta_parsing":
            message = "it is not a duration: write seconds, for example 30, or ISO 8601, for example PT30S or P7D"
        case "too_short" if error["ctx"]["actual_length"]:
            message = "it has {actual_length} characters; it needs at least {min_length}".format(**error["ctx"])
        case "too_short":
            message = "it is empty: give it a value, or remove it"
    return f"{PREFIX}{str(error['loc'][0]).upper()}: {message}" if error["loc"] else message


@contextmanager
def blaming(setting: str) -> Iterator[None]:
    """Raise a `SettingsError` that names this setting in place of any error."""
    try:
        yield
    except Exception as error:
        raise SettingsError(f"{PREFIX}{setting}: {str(error).partition(chr(10))[0]}") from error


def exit_misconfigured(*messages: str) -> NoReturn:
    """Print the messages to standard error and exit with code 2."""
    print_misconfigured(*messages)
    raise SystemExit(EXIT_MISCONFIGURED)


def print_misconfigured(*messages: str) -> None:
    """Print the messages to standard error, as every service does before it exits with `EXIT_MISCONFIGURED`."""
    for message in messages:
        print(f"milepost: {message}", file=sys.stderr)  # noqa: T201 - the logs may not be set up yet
