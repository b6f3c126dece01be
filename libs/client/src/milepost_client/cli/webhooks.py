"""`milepost webhooks`: what became of a job's webhooks, sending one again, and the secrets to verify them with."""

import sys

import typer

from milepost_client import Client
from milepost_client.cli.options import AsJson, JobId, connected
from milepost_client.cli.render import print_json, print_webhooks

app = typer.Typer(
    help="See what became of webhooks, and their secrets.\n\nOf jobs that were handed over with --callback-url. Send "
    "them again, and get the secrets that receivers verify them with.",
    no_args_is_help=True,
)


@app.command("list")
@connected
def list_tries(client: Client, job_id: JobId, as_json: AsJson = False) -> None:
    """List every try to deliver a job's webhook, oldest first."""
    found = client.webhooks(job_id)
    print_json(found) if as_json else print_webhooks(found)


@app.command()
@connected
def redeliver(client: Client, job_id: JobId) -> None:
    """Send a job's webhook again, whatever became of it; prints its webhook-id."""
    sys.stdout.write(f"{client.redeliver_webhook(job_id)}\n")


@app.command()
@connected
def secrets(client: Client) -> None:
    """Print the secrets that your receivers verify webhooks with, newest first; needs a key with the scope admin."""
    sys.stdout.write("".join(f"{secret}\n" for secret in client.webhook_secrets()))
