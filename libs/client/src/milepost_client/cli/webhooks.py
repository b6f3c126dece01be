"""`milepost webhooks`: what became of a job's webhooks, sending one again, and the secrets to verify them with."""

import sys
from typing import Annotated

import typer

from milepost_client.cli.options import AsJson, Url
from milepost_client.cli.render import print_json, print_webhooks
from milepost_client.client import Client

app = typer.Typer(
    help="Look at what became of the webhooks of jobs that were handed over with --callback-url, send them again, and "
    "get the secrets that receivers verify them with.",
    no_args_is_help=True,
)

JobId = Annotated[str, typer.Argument(metavar="ID")]


@app.command("list")
def list_tries(job_id: JobId, as_json: AsJson = False, url: Url = None) -> None:
    """List every try to deliver a job's webhook, oldest first."""
    with Client(url) as client:
        found = client.webhooks(job_id)
    print_json(found) if as_json else print_webhooks(found)


@app.command()
def redeliver(job_id: JobId, url: Url = None) -> None:
    """Send a job's webhook again, whatever became of it; prints its webhook-id."""
    with Client(url) as client:
        sys.stdout.write(f"{client.redeliver_webhook(job_id)}\n")


@app.command()
def secrets(url: Url = None) -> None:
    """Print the secrets that your receivers verify webhooks with, newest first; needs a key with the scope admin."""
    with Client(url) as client:
        sys.stdout.write("".join(f"{secret}\n" for secret in client.webhook_secrets()))
