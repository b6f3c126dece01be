"""`milepost`: hand over jobs and follow them from the command line.

Exit codes: 0 the job succeeded (or was handed over) · 1 it failed · 2 the call does not fit · 3 it was canceled ·
4 no such job · 5 the gateway can't be reached or can't do it now.
"""

import sys
from collections.abc import Callable
from http import HTTPStatus
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from milepost_client.cli import batch, dead, fleet, jobs, keys, webhooks
from milepost_client.cli.config import BadConfig
from milepost_client.cli.plain import plain
from milepost_client.errors import JobNotFound, MilepostError, PartlyHandedOver, Refused, Unavailable

USAGE, NOT_FOUND, UNAVAILABLE = 2, 4, 5
MORE_COMMANDS = "milepost.commands"
"""The entry points by which other packages add commands: typer apps."""

app = typer.Typer(
    name="milepost",
    help="Hand over long-running jobs and follow them.",
    epilog="Exit codes: 0 the job succeeded or was handed over, 1 it failed, 2 the call does not fit, 3 it was "
    "canceled, 4 no such job, 5 the gateway can't be reached. Where no option says it, the gateway is the one in "
    "MILEPOST_URL, or in ~/.config/milepost/config.toml (url, api_key).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"milepost {version('milepost-client')}")
        raise typer.Exit


@app.callback()
def main_options(
    _: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    """Hand over long-running jobs and follow them."""


for _part in (jobs.app, batch.app, fleet.app):
    app.add_typer(_part)
app.add_typer(dead.app, name="dead")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
for _more in entry_points(group=MORE_COMMANDS):
    app.add_typer(_more.load())


def main() -> None:
    """Run the command line; errors are one sentence on standard error."""
    sys.exit(_guarded(app))


def _guarded(run: Callable[[], object]) -> int:
    try:
        run()
    except MilepostError as error:
        return _fail(*_told(error))
    except ValueError as error:  # what can't be sent: text that is no UTF-8, a key that is none
        return _fail(str(error), USAGE)
    return 0


def _told(error: MilepostError) -> tuple[str, int]:  # noqa: PLR0911 - a table
    match error:
        case BadConfig():
            return str(error), USAGE
        case JobNotFound():
            return str(error), NOT_FOUND
        case Refused():
            hint = (
                " Set MILEPOST_API_KEY, or give --api-key." if error.problem.status == HTTPStatus.UNAUTHORIZED else ""
            )
            return f"{error}{hint}", USAGE
        case PartlyHandedOver(__cause__=MilepostError() as cause):
            return str(error), _told(cause)[1]
        case Unavailable(problem=None, answered=False):
            return (
                f"{error}. Is a gateway running there? 'milepost dev' or 'make up' starts one; --url names another",
                UNAVAILABLE,
            )
        case Unavailable():
            return str(error), UNAVAILABLE
    return str(error), 1


def _fail(error: str, code: int) -> int:
    print(f"milepost: {plain(error)}", file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    main()
