"""The options that every command has."""

from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="MILEPOST_URL", help="The gateway.", show_default="http://127.0.0.1:8800"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
