"""`milepost submit`, `status`, `watch`, `result` …: jobs one by one, or a few together."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from milepost_client import Client, JobDocument, JobFailed, JobHandle, JobNotFound, Status, find_files
from milepost_client.cli.following import follow
from milepost_client.cli.options import AsJson, JobId, complete_ids, complete_types, connected
from milepost_client.cli.params import read_length, read_moment, read_params
from milepost_client.cli.plain import plain_json
from milepost_client.cli.render import print_document, print_jobs, print_json, print_submitted

EXIT_OF = {Status.SUCCEEDED: 0, Status.FAILED: 1, Status.CANCELED: 3}

app = typer.Typer()

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow the job to its end.")]
Length = typer.Option(parser=read_length, metavar="LENGTH")


@app.command()
@connected
def submit(
    client: Client,
    type: Annotated[
        str, typer.Argument(metavar="TYPE", help="A job type; see 'milepost types'.", autocompletion=complete_types)
    ],
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
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The same key within a day is the same job: run this twice safely."),
    ] = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Hand a job over."""
    if delay is not None and run_at is not None:
        raise typer.BadParameter("give --run-at or --delay, not both", param_hint="--delay")
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
        idempotency_key=idempotency_key,
    )
    if watch:
        sys.stderr.write(f"job {handle.id}\n")
    if watch or as_json:
        _show(client, handle, watch=watch, as_json=as_json)
    else:
        print_submitted(handle)


def _show(client: Client, handle: JobHandle, *, watch: bool, as_json: bool) -> None:
    """Print a job: as it is, or followed to its end, which the exit code then tells."""
    if watch:
        follow(client, [handle])
    print_json(handle.document) if as_json else print_document(handle.document)
    if watch:
        raise typer.Exit(EXIT_OF[handle.document.status])


@app.command()
@connected
def status(client: Client, job_id: JobId, watch: Watch = False, as_json: AsJson = False) -> None:
    """Show a job. With --watch the exit code tells how it ended."""
    _show(client, client.job(job_id), watch=watch, as_json=as_json)


@app.command()
@connected
def watch(
    client: Client,
    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", autocompletion=complete_ids)],
    as_json: AsJson = False,
) -> None:
    """Follow one job or many to their ends.

    Over one connection; then they are shown. The exit code tells the worst end.
    """
    handles = [_found(client, job_id) for job_id in dict.fromkeys(job_ids)]
    follow(client, handles)
    _print(handles, as_json=as_json)
    ends = {handle.document.status for handle in handles}
    raise typer.Exit(EXIT_OF[next(end for end in (Status.FAILED, Status.CANCELED, Status.SUCCEEDED) if end in ends)])


def _found(client: Client, job_id: str) -> JobHandle:
    """Return one of several jobs; the gateway repeats no id that it does not know."""
    try:
        return client.job(job_id)
    except JobNotFound:
        sys.stderr.write(f"milepost: {job_id}:\n")
        raise


def _print(handles: Sequence[JobHandle], *, as_json: bool) -> None:
    if len(handles) == 1:
        print_json(handles[0].document) if as_json else print_document(handles[0].document)
    elif as_json:
        print_json([handle.document for handle in handles])
    else:
        print_jobs([handle.document for handle in handles])


@app.command()
@connected
def result(
    client: Client,
    job_id: JobId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Write it to this file, not to the output.")
    ] = None,
) -> None:
    """Wait for a job's end and print its result.

    It is JSON, or the file that the handler made it; progress goes to standard error.
    """
    handle = client.job(job_id)
    if not handle.document.status.terminal:
        follow(client, [handle])
    if handle.document.status is Status.FAILED:
        raise JobFailed(handle.document)
    if handle.document.status is Status.CANCELED:
        sys.stderr.write("milepost: the job was canceled, so it has no result\n")
        raise typer.Exit(EXIT_OF[Status.CANCELED])
    if handle.document.result_file is None:
        pieces = iter([(plain_json(handle.document.result) + "\n").encode()])
    else:
        pieces = handle.result_bytes()
    try:
        with output.open("wb") if output else nullcontext(sys.stdout.buffer) as file:
            file.writelines(pieces)
            file.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise typer.BadParameter(f"{output}: {error.strerror}", param_hint="--output") from error


@app.command()
@connected
def download(
    client: Client,
    job_id: JobId,
    name: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these files.")] = None,
    to: Annotated[Path, typer.Option(file_okay=False, help="The folder to save them in.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Save the files that a job's handler wrote.

    A result that is a file too; prints the paths.
    """
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
        status = handle.document.status
        why = (
            f"its handler wrote no file; the result: milepost result {job_id}" if status.terminal else f"it is {status}"
        )
        sys.stderr.write(f"there is nothing to download: {why}\n")
        raise typer.Exit(1)


@app.command()
@connected
def cancel(client: Client, job_id: JobId, watch: Watch = False, as_json: AsJson = False) -> None:
    """Ask that a job be canceled. With --watch the exit code tells how it ended."""
    _show(client, client.cancel(job_id), watch=watch, as_json=as_json)


@app.command()
@connected
def retry(client: Client, job_id: JobId, watch: Watch = False, as_json: AsJson = False) -> None:
    """Run a job again that has ended. With --watch the exit code tells how it ended."""
    _show(client, client.retry(job_id), watch=watch, as_json=as_json)


@app.command()
@connected
def delete(client: Client, job_id: JobId) -> None:
    """Forget a job that has ended, and its files.

    Needs a key with the scope admin, where there are keys.
    """
    client.forget(job_id)
    sys.stderr.write(f"{job_id} is forgotten\n")


@app.command("list")
@connected
def list_jobs(
    client: Client,
    status: Annotated[Status | None, typer.Option(help="Only jobs in this state.")] = None,
    type: Annotated[str | None, typer.Option(help="Only jobs of this type.", autocompletion=complete_types)] = None,
    queue: Annotated[str | None, typer.Option(help="Only jobs of this queue.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only jobs with this tag.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only jobs of this batch.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    jobs = client.jobs(status=status, type=type, queue=queue, tag=tag, batch=batch, limit=limit)
    found: list[JobDocument] = list(jobs)
    print_json(found) if as_json else print_jobs(found)
