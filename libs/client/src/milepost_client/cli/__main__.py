"""`milepost`: submit and watch jobs from the command line.

Exit codes: 0 the job succeeded or was submitted · 1 the job failed · 2 invalid usage or request · 3 the job was
canceled · 4 job not found · 5 the gateway is unavailable.
"""

import sys
from collections.abc import Callable
from http import HTTPStatus
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from milepost_client.cli import batch, dead, jobs, keys, webhooks, workers
from milepost_client.cli.config import BadConfig
from milepost_client.cli.plain import plain
from milepost_client.errors import JobNotFound, MilepostError, PartlySubmitted, Refused, Unavailable

USAGE, NOT_FOUND, UNAVAILABLE = 2, 4, 5
MORE_COMMANDS = "milepost.commands"
"""The entry-point group by which other packages add commands, as typer apps."""

app = typer.Typer(
    name="milepost",
    help="Submit long-running jobs and watch their progress.",
    epilog="Exit codes: 0 the job succeeded or was submitted, 1 the job failed, 2 invalid usage or request, 3 the job "
    "was canceled, 4 job not found, 5 the gateway is unavailable. Give --url and --api-key after the command. Without "
    "them, MILEPOST_URL and MILEPOST_API_KEY are used, then url and api_key in ~/.config/milepost/config.toml.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"milepost {version('milepost-client')}")
        raise typer.Exit


@app.callback()
def main_options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Submit long-running jobs and watch their progress."""


for _part in (jobs.app, batch.app, workers.app):
    app.add_typer(_part)
app.add_typer(dead.app, name="dead")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
for _more in entry_points(group=MORE_COMMANDS):
    app.add_typer(_more.load())


def main() -> None:
    """Run the command; print errors as one message on standard error."""
    sys.exit(_run(app))


def _run(run: Callable[[], object]) -> int:
    try:
        run()
    except MilepostError as error:
        return _fail(*_message_and_code(error))
    except ValueError as error:  # can't be sent: text that is not UTF-8, an invalid key
        return _fail(str(error), USAGE)
    return 0


def _message_and_code(error: MilepostError) -> tuple[str, int]:  # noqa: PLR0911 - a table
    match error:
        case BadConfig():
            return str(error), USAGE
        case JobNotFound():
            return str(error), NOT_FOUND
        case Refused():
            hint = " Set MILEPOST_API_KEY or use --api-key." if error.problem.status == HTTPStatus.UNAUTHORIZED else ""
            return f"{error}{hint}", USAGE
        case PartlySubmitted(__cause__=MilepostError() as cause):
            return str(error), _message_and_code(cause)[1]
        case Unavailable(problem=None, answered=False):
            return (
                f"{error}. Start a gateway with 'milepost dev' or 'make up', or set its address with --url.",
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
