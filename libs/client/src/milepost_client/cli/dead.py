"""`milepost dead`: what the broker gave up."""

import sys
from typing import Annotated

import typer

from milepost_client import Client
from milepost_client.cli.options import AsJson, JobId, connected
from milepost_client.cli.render import print_dead_letters, print_document, print_json

app = typer.Typer(
    help="Look at what the broker gave up.\n\nJobs whose workers died again and again, or that no processor knew. Hand "
    "them over again. (Jobs that failed by themselves: 'list --status failed'.)",
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
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the jobs that were given up, and the messages that nobody could read."""
    found = client.dead_letters(type=type, queue=queue, limit=limit)
    print_json(found) if as_json else print_dead_letters(found)


@app.command()
@connected
def show(client: Client, job_id: JobId, as_json: AsJson = False) -> None:
    """Show one of these jobs."""
    document = client.job(job_id).document
    print_json(document) if as_json else print_document(document)


@app.command()
@connected
def redrive(
    client: Client,
    job_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One job; else all that fit --type and --queue.")
    ] = None,
    type: Type = None,
    queue: Queue = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many at most.")] = 100,
    rate: Annotated[float | None, typer.Option(min=0.001, help="How many a second; all at once by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print which it would be.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All of them, whatever their type and queue.")] = False,
) -> None:
    """Hand jobs over again that were given up, each as its next run; prints their ids."""
    if job_id is not None and (dry_run or type or queue or rate):
        raise typer.BadParameter("an ID stands alone: no --dry-run, --type, --queue or --rate with it")
    if not (job_id or type or queue or dry_run or everything):
        raise typer.BadParameter("say which: an ID, --type, --queue, or --all")
    if job_id is not None:
        found = [client.redrive(job_id).id]
    else:
        found = client.redrive_many(type=type, queue=queue, limit=limit, rate=rate, dry_run=dry_run)
    sys.stdout.write("".join(f"{one}\n" for one in found))
    were = "would be" if dry_run else "was" if len(found) == 1 else "were"
    sys.stderr.write(f"{len(found)} {were} handed over again\n")
