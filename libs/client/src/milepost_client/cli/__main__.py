"""`milepost`: hand over jobs and follow them from the command line.

Exit codes: 0 the job succeeded (or was handed over) · 1 it failed · 2 the call does not fit · 3 it was canceled ·
4 no such job · 5 the gateway can't be reached or can't do it now.
"""

import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from milepost_client.cli import dead, keys, webhooks
from milepost_client.cli.options import AsJson, Url
from milepost_client.cli.params import read_length, read_moment, read_params
from milepost_client.cli.render import (
    follow,
    print_document,
    print_jobs,
    print_json,
    print_submitted,
    print_types,
)
from milepost_client.client import Client
from milepost_client.errors import JobNotFound, MilepostError, Refused, Unavailable
from milepost_client.files import find_files
from milepost_client.handle import JobHandle
from milepost_contracts.document import JobDocument
from milepost_contracts.states import Status

USAGE, NOT_FOUND, UNAVAILABLE = 2, 4, 5
EXIT_OF = {Status.SUCCEEDED: 0, Status.FAILED: 1, Status.CANCELED: 3}

app = typer.Typer(
    name="milepost",
    help="Hand over long-running jobs and follow them.",
    no_args_is_help=True,
    add_completion=False,
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


@app.command()
def submit(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="A job type; see 'milepost types'.")],
    params: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="The job's params; values may be JSON."),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", help="Send a file, or a folder's files, along. May be repeated."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A word of yours on the job. May be repeated.")] = None,
    delay: Annotated[
        timedelta | None,
        typer.Option(parser=read_length, metavar="LENGTH", help="Not before so long: 90s, 5m, 2h, 7d."),
    ] = None,
    run_at: Annotated[
        datetime | None,
        typer.Option(parser=read_moment, metavar="TIME", help="Not before this time: 2026-01-31T12:00:00Z."),
    ] = None,
    expires_in: Annotated[
        timedelta | None,
        typer.Option(
            parser=read_length,
            metavar="LENGTH",
            help="End as expired if nobody starts it so long after it may run (after --delay or --run-at).",
        ),
    ] = None,
    callback_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Tell this URL of the job's end, by a webhook.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the job to its end.")] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Hand a job over."""
    if delay is not None and run_at is not None:
        raise typer.BadParameter("give --run-at or --delay, not both", param_hint="--delay")
    with Client(url) as client:
        try:
            files = find_files(file or [])
        except FileNotFoundError as error:
            raise typer.BadParameter(f"there is no {error.args[0]}", param_hint="--file") from error
        if file and not files:
            raise typer.BadParameter("there are no files in it", param_hint="--file")
        handle = client.submit(
            type,
            read_params(params or [], type, client),
            files=files,
            tags=tag or [],
            run_at=run_at,
            delay=delay,
            expires_in=expires_in,
            callback_url=callback_url,
        )
        if watch:
            sys.stderr.write(f"job {handle.id}\n")
        if watch or as_json:
            _show(handle, watch=watch, as_json=as_json)
        else:
            print_submitted(handle)


def _show(handle: JobHandle, *, watch: bool, as_json: bool) -> None:
    """Print a job: as it is, or followed to its end, which the exit code then tells."""
    document = follow(handle) if watch else handle.document
    print_json(document) if as_json else print_document(document)
    if watch:
        raise typer.Exit(EXIT_OF[document.status])


@app.command()
def status(
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the job to its end.")] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Show a job. With --watch the exit code tells how it ended."""
    with Client(url) as client:
        handle = client.job(job_id)
        _show(handle, watch=watch, as_json=as_json)


@app.command()
def download(
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    name: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these files.")] = None,
    to: Annotated[Path, typer.Option(file_okay=False, help="The folder to save them in.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    url: Url = None,
) -> None:
    """Save what a job's handler wrote, and a result that is a file; prints the paths."""
    with Client(url) as client:
        handle = client.job(job_id)
        try:
            for path in handle.download(to, names=name or (), replace=force):
                sys.stdout.write(f"{path}\n")
        except FileExistsError as error:
            raise typer.BadParameter(f"{error.filename} is there already: --force replaces it") from error
        except OSError as error:
            raise typer.BadParameter(f"{error.filename or to}: {error.strerror}", param_hint="--to") from error
        except KeyError as error:
            known = ", ".join(output.name for output in handle.document.outputs) or "none"
            raise typer.BadParameter(f"there is no file {error.args[0]!r}; there are: {known}") from error
        if not (handle.document.outputs or handle.document.result_file):
            sys.stderr.write(f"there is nothing to download: the job is {handle.document.status}\n")
            raise typer.Exit(1)


@app.command()
def cancel(
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the job to its end.")] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Ask that a job be canceled. With --watch the exit code tells how it ended."""
    with Client(url) as client:
        handle = client.cancel(job_id)
        _show(handle, watch=watch, as_json=as_json)


@app.command("list")
def list_jobs(
    status: Annotated[Status | None, typer.Option(help="Only jobs in this state.")] = None,
    type: Annotated[str | None, typer.Option(help="Only jobs of this type.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List jobs, newest first."""
    with Client(url) as client:
        found: list[JobDocument] = list(client.jobs(status=status, type=type, limit=limit))
    print_json(found) if as_json else print_jobs(found)


@app.command()
def types(as_json: AsJson = False, url: Url = None) -> None:
    """List what can be submitted."""
    with Client(url) as client:
        found = client.types()
    print_json(found) if as_json else print_types(found)


app.add_typer(dead.app, name="dead")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")


def main() -> None:
    """Run the command line; errors are one sentence on standard error."""
    sys.exit(_guarded(app))


def _guarded(run: Callable[[], object]) -> int:
    try:
        run()
    except JobNotFound as error:
        return _fail(error, NOT_FOUND)
    except Refused as error:
        hint = " Set MILEPOST_API_KEY." if error.problem.status == HTTPStatus.UNAUTHORIZED else ""
        return _fail(f"{error}{hint}", USAGE)
    except Unavailable as error:
        hint = "" if error.problem else ". Is a gateway running there? 'make up' starts one; --url names another"
        return _fail(f"{error}{hint}", UNAVAILABLE)
    except MilepostError as error:
        return _fail(error, 1)
    except BrokenPipeError:
        return 0
    return 0


def _fail(error: Exception | str, code: int) -> int:
    print(f"milepost: {error}", file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    main()
