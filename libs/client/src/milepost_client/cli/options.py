"""The options that every command has, and the gateway that they lead to."""

import functools
import inspect
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import typer

from milepost_client import Client
from milepost_client._sync.client import KEY_VARIABLE, URL_VARIABLE
from milepost_client.cli.config import BadConfig, read_config

PATIENCE = timedelta(seconds=2)
"""Who sits before a terminal sees for themselves that nothing answers."""

Url = Annotated[
    str | None,
    typer.Option("--url", envvar=URL_VARIABLE, help="The gateway.", show_default="http://127.0.0.1:8800"),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", envvar=KEY_VARIABLE, help="Who asks. Other users of this machine can see options."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


def connect(url: str | None = None, api_key: str | None = None) -> Client:
    """Return a client of the gateway that is named here, or in the configuration file."""
    config = read_config()
    place = url or os.environ.get(URL_VARIABLE) or config.url
    key = api_key or os.environ.get(KEY_VARIABLE)
    if key is None and place == config.url:  # the file's key is for the file's gateway
        key = config.api_key
    try:
        return Client(place, api_key=key, patience=PATIENCE)
    except ValueError as error:
        raise BadConfig(str(error)) from error


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --url and --api-key, and as its first argument the client that they lead to."""

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
    """Return the job types that begin so; none if nobody answers: a shell waits for this."""
    return [
        one for one in _quietly(lambda client: [kind.type for kind in client.types()]) if one.startswith(incomplete)
    ]


def complete_ids(incomplete: str) -> list[str]:
    """Return the latest jobs whose ids begin so."""
    return [
        one for one in _quietly(lambda client: [job.id for job in client.jobs(limit=30)]) if one.startswith(incomplete)
    ]


def _quietly(ask: Callable[[Client], list[str]]) -> list[str]:
    try:
        with connect() as client:
            return ask(client)
    except Exception:  # noqa: BLE001 - a shell that completes a word shows no errors
        return []


JobId = Annotated[str, typer.Argument(metavar="ID", autocompletion=complete_ids)]
