"""Options of every command, and the client that they select."""

import functools
import inspect
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import typer

from milepost_client import Client
from milepost_client._sync.client import URL_VARIABLE
from milepost_client.cli.config import BadConfig, read_config
from milepost_client.environment import KEY_VARIABLE, api_key_from_environment

RETRY_TIMEOUT = timedelta(seconds=2)
"""How long the command retries a request: short, because a person waits."""

Url = Annotated[
    str | None,
    typer.Option("--url", envvar=URL_VARIABLE, help="URL of the gateway.", show_default="http://127.0.0.1:8800"),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", envvar=KEY_VARIABLE, help="API key. Other users of this machine can see options."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def connect(url: str | None = None, api_key: str | None = None) -> Client:
    """Return a client of the gateway named by the arguments, the environment or the configuration file."""
    config = read_config()
    gateway = url or os.environ.get(URL_VARIABLE) or config.url
    given = api_key if api_key != os.environ.get(KEY_VARIABLE) else None
    try:
        key = given or api_key_from_environment()
        if key is None and gateway == config.url:  # the file's key is for the file's gateway
            key = config.api_key
        return Client(gateway, api_key=key, retry_timeout=RETRY_TIMEOUT)
    except ValueError as error:
        raise BadConfig(str(error)) from error


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options --url and --api-key to a command; pass the client as its first argument."""

    @functools.wraps(command)
    def run(*, url: str | None, api_key: str | None, **options: Any) -> None:
        with connect(url, api_key) as client:
            command(client, **options)

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = list(inspect.signature(command).parameters.values())[1:]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *(one.replace(kind=keyword) for one in own),
            inspect.Parameter("url", keyword, default=None, annotation=Url),
            inspect.Parameter("api_key", keyword, default=None, annotation=ApiKey),
        ]
    )
    return run


def complete_types(incomplete: str) -> list[str]:
    """Return the job types with this prefix; none if the gateway can't be reached."""
    return [
        one for one in _quietly(lambda client: [kind.type for kind in client.types()]) if one.startswith(incomplete)
    ]


def complete_ids(incomplete: str) -> list[str]:
    """Return the ids with this prefix among the latest 30 jobs."""
    return [
        one for one in _quietly(lambda client: [job.id for job in client.jobs(limit=30)]) if one.startswith(incomplete)
    ]


def _quietly(ask: Callable[[Client], list[str]]) -> list[str]:
    try:
        with connect() as client:
            return ask(client)
    except Exception:  # noqa: BLE001 - shell completion must not print errors
        return []


JobId = Annotated[str, typer.Argument(metavar="ID", autocompletion=complete_ids)]
