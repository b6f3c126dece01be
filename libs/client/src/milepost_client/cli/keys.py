"""`milepost keys`: create, list and revoke API keys in the access file that gateways read."""

import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from milepost_client.cli.options import AsJson
from milepost_client.cli.params import read_length
from milepost_client.cli.render import print_json, print_keys
from milepost_contracts.clock import now
from milepost_contracts.http.access import Access, Scope, create_key, read_access, write_access
from milepost_contracts.values import WORD

app = typer.Typer(
    help="Create, list and revoke API keys.\n\nThe keys are in the access file that gateways read "
    "(MILEPOST_ACCESS_FILE). Gateways apply a change within two seconds.",
    no_args_is_help=True,
)

File = Annotated[
    Path,
    typer.Option(
        "--file",
        envvar="MILEPOST_ACCESS_FILE",
        dir_okay=False,
        help="The access file, by default in the current folder.",
    ),
]
DEFAULT_FILE = Path("access.json")


def _read(path: Path) -> Access:
    try:
        return read_access(path)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--file") from error


def _tenant(text: str) -> str:
    if not re.fullmatch(WORD, text) or len(text) > 64:  # noqa: PLR2004
        raise typer.BadParameter(f"{text!r} is not a tenant name (lower-case words with hyphens, up to 64 characters).")
    return text


def _scope(text: str) -> Scope:
    if text not in [*Scope]:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(Scope)}.")
    return Scope(text)


@app.command()
def create(
    tenant: Annotated[str, typer.Option(parser=_tenant, metavar="NAME", help="Tenant of the key.")] = "default",
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            parser=_scope,
            metavar=f"[{'|'.join(Scope)}]",
            help="Scope of the key. May be repeated; read and submit by default.",
        ),
    ] = None,
    expires_in: Annotated[
        timedelta | None,
        typer.Option(parser=read_length, metavar="LENGTH", help="Lifetime of the key: 12h, 90d; unlimited by default."),
    ] = None,
    note: Annotated[str | None, typer.Option(help="Note on the purpose of the key.")] = None,
    file: File = DEFAULT_FILE,
) -> None:
    """Create a key in the access file, and print it. It can't be shown again: the file has only its digest."""
    access = _read(file) if file.exists() else Access()
    if not file.absolute().parent.is_dir():
        raise typer.BadParameter(f"The folder {file.parent} does not exist.", param_hint="--file")
    expires_at = None if expires_in is None else now() + expires_in
    scopes = frozenset(scope or (Scope.READ, Scope.SUBMIT))
    text, key = create_key(tenant, scopes, expires_at=expires_at, note=note)
    write_access(file, access.with_key(key))
    sys.stdout.write(f"{text}\n")
    sys.stderr.write(f"Tenant {tenant}: {', '.join(sorted(scopes))}. Save the key: {file} has only its digest.\n")
    if "MILEPOST_ACCESS_FILE" not in os.environ:
        sys.stderr.write(f"To require keys, start gateways with MILEPOST_ACCESS_FILE={file.absolute()}\n")


@app.command("list")
def list_keys(as_json: AsJson = False, file: File = DEFAULT_FILE) -> None:
    """List the keys: tenants, scopes and expiry times, but not the keys themselves."""
    keys = _read(file).keys
    print_json(keys) if as_json else print_keys(keys)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as 'milepost keys list' shows it.")],
    file: File = DEFAULT_FILE,
) -> None:
    """Remove a key from the file. Gateways refuse it within two seconds."""
    access = _read(file)
    key_id = key_id.removeprefix("mp_").partition("_")[0]  # a complete key is accepted too
    if not any(key.id == key_id for key in access.keys):
        raise typer.BadParameter(f"{file} has no key {key_id}.", param_hint="ID")
    write_access(file, access.without_key(key_id))
    sys.stderr.write(f"Revoked {key_id}\n")
