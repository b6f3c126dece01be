"""`milepost types`, `processors`, `queues`: job types, and the workers that run them."""

import typer

from milepost_client import Client
from milepost_client.cli.options import AsJson, connected
from milepost_client.cli.render import print_json, print_processors, print_queues, print_types

app = typer.Typer()


@app.command()
@connected
def types(client: Client, as_json: AsJson = False) -> None:
    """List the job types that can be submitted."""
    found = client.types()
    print_json(found) if as_json else print_types(found)


@app.command()
@connected
def processors(client: Client, as_json: AsJson = False) -> None:
    """List the live processors."""
    found = client.processors()
    print_json(found) if as_json else print_processors(found)


@app.command()
@connected
def queues(client: Client, as_json: AsJson = False) -> None:
    """List the queues, with the number of waiting jobs."""
    found = client.queues()
    print_json(found) if as_json else print_queues(found)
