"""`milepost submit`, `status`, `watch`, `result` …: commands for single jobs, and for a few together."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from milepost_client import Client, JobDocument, JobFailed, JobHandle, JobNotFound, Status, find_files
from milepost_client.cli.options import AsJson, JobId, complete_ids, complete_types, connected
from milepost_client.cli.params import read_length, read_moment, read_params
from milepost_client.cli.plain import plain_json
from milepost_client.cli.progress import show_progress
from milepost_client.cli.render import print_document, print_jobs, print_json, print_submitted

EXIT_OF = {Status.SUCCEEDED: 0, Status.FAILED: 1, Status.CANCELED: 3}

app = typer.Typer()

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Watch the job until it has ended.")]
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
        typer.Argument(metavar="[KEY=VALUE]...", help="Params of the job; values may be JSON."),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", help="File or folder to upload. May be repeated."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Tag for the job. May be repeated.")] = None,
    delay: Annotated[
        timedelta | None,
        typer.Option(parser=read_length, metavar="LENGTH", help="Time to wait before the start: 90s, 5m, 2h, 7d."),
    ] = None,
    run_at: Annotated[
        datetime | None,
        typer.Option(parser=read_moment, metavar="TIME", help="Start no earlier than this time: 2026-01-31T12:00:00Z."),
    ] = None,
    expires_in: Annotated[
        timedelta | None,
        typer.Option(
            parser=read_length,
            metavar="LENGTH",
            help="Maximum wait for the start, after --run-at or --delay: 7 days by default. Then the job fails.",
        ),
    ] = None,
    callback_url: Annotated[
        str | None, typer.Option(metavar="URL", help="URL that receives a webhook when the job ends.")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Within a day, the same key creates the job once: safe to repeat."),
    ] = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Submit a job."""
    if delay is not None and run_at is not None:
        raise typer.BadParameter("Give --run-at or --delay, not both.", param_hint="--delay")
    try:
        files = find_files(file or [])
    except FileNotFoundError as error:
        raise typer.BadParameter(f"{error.args[0]} does not exist.", param_hint="--file") from error
    if file and not files:
        raise typer.BadParameter("The folder has no files.", param_hint="--file")
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
    """Print a job. With `watch`, first wait for its end, then exit with the code of its state."""
    if watch:
        show_progress(client, [handle])
    print_json(handle.document) if as_json else print_document(handle.document)
    if watch:
        raise typer.Exit(EXIT_OF[handle.document.status])


@app.command()
@connected
def status(client: Client, job_id: JobId, watch: Watch = False, as_json: AsJson = False) -> None:
    """Show a job. With --watch, the exit code is that of the final state."""
    _show(client, client.job(job_id), watch=watch, as_json=as_json)


@app.command()
@connected
def watch(
    client: Client,
    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", autocompletion=complete_ids)],
    as_json: AsJson = False,
) -> None:
    """Watch jobs until all have ended, then show them.

    The exit code is that of the worst final state: failed, then canceled, then succeeded.
    """
    handles = [_found(client, job_id) for job_id in dict.fromkeys(job_ids)]
    show_progress(client, handles)
    _print(handles, as_json=as_json)
    ends = {handle.document.status for handle in handles}
    raise typer.Exit(EXIT_OF[next(end for end in (Status.FAILED, Status.CANCELED, Status.SUCCEEDED) if end in ends)])


def _found(client: Client, job_id: str) -> JobHandle:
    """Return a job; if it does not exist, print its id, which the error of the gateway does not contain."""
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
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Write to this file, not standard output.")
    ] = None,
) -> None:
    """Wait until a job has ended, and print its result.

    The result is JSON, or the content of the result file. Progress goes to standard error.
    """
    handle = client.job(job_id)
    if not handle.document.status.terminal:
        show_progress(client, [handle])
    if handle.document.status is Status.FAILED:
        raise JobFailed(handle.document)
    if handle.document.status is Status.CANCELED:
        sys.stderr.write("milepost: The job was canceled and has no result.\n")
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
    to: Annotated[Path, typer.Option(file_okay=False, help="Target folder.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Save a job's output files and result file.

    Prints their paths.
    """
    handle = client.job(job_id)
    try:
        for path in handle.download(to, names=name or (), replace=force):
            sys.stdout.write(f"{path}\n")
    except FileExistsError as error:
        raise typer.BadParameter(f"{error.filename} exists already. Use --force to replace it.") from error
    except OSError as error:
        raise typer.BadParameter(f"{error.filename or to}: {error.strerror}", param_hint="--to") from error
    except KeyError as error:
        known = ", ".join(output.name for output in handle.document.outputs) or "none"
        raise typer.BadParameter(f"The job has no file {error.args[0]!r}. Its files: {known}") from error
    if not (handle.document.outputs or handle.document.result_file):
        status = handle.document.status
        reason = (
            f"The job has no files. Print its result: milepost result {job_id}"
            if status.terminal
            else f"The job is {status} and has no files yet."
        )
        sys.stderr.write(f"{reason}\n")
        raise typer.Exit(1)


@app.command()
@connected
def cancel(client: Client, job_id: JobId, watch: Watch = False, as_json: AsJson = False) -> None:
    """Request that a job be canceled. With --watch, the exit code is that of the final state."""
    _show(client, client.cancel(job_id), watch=watch, as_json=as_json)


@app.command()
@connected
def retry(client: Client, job_id: JobId, watch: Watch = False, as_json: AsJson = False) -> None:
    """Run an ended job again. With --watch, the exit code is that of the final state."""
    _show(client, client.retry(job_id), watch=watch, as_json=as_json)


@app.command()
@connected
def delete(client: Client, job_id: JobId) -> None:
    """Delete an ended job and its files.

    If the gateway requires API keys, the key needs the scope admin.
    """
    client.delete(job_id)
    sys.stderr.write(f"Deleted {job_id}\n")


@app.command("list")
@connected
def list_jobs(
    client: Client,
    status: Annotated[Status | None, typer.Option(help="Only jobs in this state.")] = None,
    type: Annotated[str | None, typer.Option(help="Only jobs of this type.", autocompletion=complete_types)] = None,
    queue: Annotated[str | None, typer.Option(help="Only jobs of this queue.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only jobs with this tag.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only jobs of this batch.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    jobs = client.jobs(status=status, type=type, queue=queue, tag=tag, batch=batch, limit=limit)
    found: list[JobDocument] = list(jobs)
    print_json(found) if as_json else print_jobs(found)
