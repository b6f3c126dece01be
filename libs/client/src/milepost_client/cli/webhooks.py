"""`milepost webhooks`: list delivery attempts, redeliver a webhook, and print the secrets."""

import sys

import typer

from milepost_client import Client
from milepost_client.cli.options import AsJson, JobId, connected
from milepost_client.cli.render import print_json, print_webhooks

app = typer.Typer(
    help="List and redeliver webhooks, and print their secrets.\n\nA job submitted with --callback-url sends a webhook "
    "when it ends. Receivers verify it with the secrets.",
    no_args_is_help=True,
)


@app.command("list")
@connected
def list_tries(client: Client, job_id: JobId, as_json: AsJson = False) -> None:
    """List the latest 100 delivery attempts of a job's webhooks, oldest first."""
    found = client.webhooks(job_id)
    print_json(found) if as_json else print_webhooks(found)


@app.command()
@connected
def redeliver(client: Client, job_id: JobId) -> None:
    """Send a job's webhook again, even if it was delivered; print its webhook-id."""
    sys.stdout.write(f"{client.redeliver_webhook(job_id)}\n")


@app.command()
@connected
def secrets(client: Client) -> None:
    """Print the secrets that receivers verify webhooks with, newest first; needs the scope admin."""
    sys.stdout.write("".join(f"{secret}\n" for secret in client.webhook_secrets()))
