"""`milepost dead`: list, show and redrive dead-lettered jobs."""

import sys
from typing import Annotated

import typer

from milepost_client import Client
from milepost_client.cli.options import AsJson, JobId, connected
from milepost_client.cli.render import print_dead_letters, print_document, print_json

app = typer.Typer(
    help="List and redrive dead-lettered jobs.\n\nThese are jobs whose workers died repeatedly, or whose type no "
    "processor knew. For jobs that failed in their handler, see 'milepost list --status failed'.",
    no_args_is_help=True,
)

Type = Annotated[str | None, typer.Option(help="Only jobs of this type.")]
Queue = Annotated[str | None, typer.Option(help="Only jobs of this queue.")]


@app.command("list")
@connected
def list_dead(
    client: Client,
    type: Type = None,
    queue: Queue = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Maximum number.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead-lettered jobs, and unreadable messages."""
    found = client.dead_letters(type=type, queue=queue, limit=limit)
    print_json(found) if as_json else print_dead_letters(found)


@app.command()
@connected
def show(client: Client, job_id: JobId, as_json: AsJson = False) -> None:
    """Show one job."""
    document = client.job(job_id).document
    print_json(document) if as_json else print_document(document)


@app.command()
@connected
def redrive(
    client: Client,
    job_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One job; otherwise all jobs that match --type and --queue.")
    ] = None,
    type: Type = None,
    queue: Queue = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Maximum number.")] = 100,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Jobs per second; unlimited by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the ids; redrive nothing.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All jobs, of any type and queue.")] = False,
) -> None:
    """Redrive dead-lettered jobs, each as its next run; print their ids."""
    if job_id is not None and (dry_run or type or queue or rate):
        raise typer.BadParameter("An ID can't be combined with --dry-run, --type, --queue or --rate.")
    if not (job_id or type or queue or dry_run or everything):
        raise typer.BadParameter("Give an ID, --type, --queue or --all.")
    if job_id is not None:
        found = [client.redrive(job_id).id]
    else:
        found = client.redrive_many(type=type, queue=queue, limit=limit, rate=rate, dry_run=dry_run)
    sys.stdout.write("".join(f"{one}\n" for one in found))
    done = "would be redriven" if dry_run else "redriven"
    sys.stderr.write(f"{len(found)} {done}\n")
