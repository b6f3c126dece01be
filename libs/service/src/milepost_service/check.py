"""`--check`: what a service would do with its settings. It logs in to the servers, and changes nothing."""

import argparse
import errno
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import AnyUrl, SecretStr, TypeAdapter

from milepost_contracts.http.problems import DOCS
from milepost_contracts.server_urls import without_password
from milepost_service.known_settings import FILE_SUFFIX, PREFIX
from milepost_service.secret_files import is_secret
from milepost_service.settings import EXIT_MISCONFIGURED, ServiceSettings

#: Asks a server or storage, and returns what to print; raises an error that says what is wrong.
Ask = Callable[[], str]

_DURATION = TypeAdapter(timedelta)
_UNITS = ((86_400, "days"), (3_600, "h"), (60, "min"))


def parser(service: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of a service's command line, with `--check`."""
    made = argparse.ArgumentParser(
        prog=f"milepost-{service}",
        description=description,
        epilog=f"Settings are environment variables: see {DOCS.removesuffix('problems')}settings. "
        f"With settings that it can't use, the service prints one sentence and exits with {EXIT_MISCONFIGURED}.",
    )
    made.add_argument(
        "--check",
        action="store_true",
        help="print what the service would do with its settings, try its connections, change nothing, "
        f"and exit with 0, or with {EXIT_MISCONFIGURED} if it would not work",
    )
    return made


def report(settings: ServiceSettings, does: Sequence[str], asks: Mapping[str, Ask]) -> int:
    """Print the settings, what the service would do, and what its servers answer; return the exit code."""
    lines = ["settings"]
    rows = [(_variable(name), *_shown(settings, name)) for name in type(settings).model_fields]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines += [f"  {name:<{widths[0]}}  {value:<{widths[1]}}  {origin}" for name, value, origin in rows]
    lines += ["it would", *(f"  {line}" for line in does)]
    if allowed := [risk for risk in settings.risks() if risk.exemption in settings.allow]:
        lines += ["allowed by MILEPOST_ALLOW", *(f"  {risk.exemption}: {risk.sentence}" for risk in allowed)]
    lines.append("servers")
    failed = []
    logging.disable()  # libraries log what is reported here
    for name, ask in asks.items():
        try:
            lines.append(f"  {name:<12}  {ask()}")
        except Exception as error:  # noqa: BLE001 - whatever is wrong is reported
            lines.append(f"  {name:<12}  FAILED: {error}")
            failed.append(name)
    logging.disable(logging.NOTSET)
    lines.append(f"it would not work: {', '.join(failed)} failed" if failed else "it would start")
    sys.stdout.write("\n".join(lines) + "\n")
    return EXIT_MISCONFIGURED if failed else 0


def duration(value: timedelta) -> str:
    """Return a duration in the largest unit that divides it."""
    seconds = value.total_seconds()
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds and seconds % size == 0), (1, "s"))
    return f"{seconds / size:g} {unit}"


def describe_folder(url: str) -> str | None:
    """Return what would be done with the folder of a `file:` URL; nothing if it is another URL.

    Raises:
        OSError: It can't be used.
    """
    if not url.startswith("file:"):
        return None
    folder = Path(unquote(urlsplit(url).path))
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"{existing} is not a folder that this user may write to")
    return f"the folder {folder}" + ("" if existing == folder else ", which would be created")


def describe_address(host: str, port: int, family: socket.AddressFamily = socket.AF_INET) -> str:
    """Return that the service could listen on an address. A port that is in use may be its own.

    Raises:
        OSError: It can't listen there.
    """
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise OSError(f"can't listen on {host}, port {port}: {error}") from error
            return f"{host}, port {port} is in use: by this service, if it runs"
    return f"{host}, port {port} is free"


def _variable(field: str) -> str:
    return PREFIX + field.upper()


def _shown(settings: ServiceSettings, field: str) -> tuple[str, str]:
    """Return the value of a setting without secrets, and where it comes from."""
    variable = _variable(field)
    if is_secret(type(settings).model_fields[field]) and os.environ.get(variable + FILE_SUFFIX):
        origin = f"from {variable}{FILE_SUFFIX}"
    else:
        origin = "from the environment" if field in settings.model_fields_set else "default"
    return _text(getattr(settings, field)), origin


def _text(value: Any) -> str:
    """Return a value as it is written in the environment; `-` for an empty one."""
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else "-"
    if isinstance(value, AnyUrl):
        return without_password(value)
    if isinstance(value, timedelta):
        return str(_DURATION.dump_python(value, mode="json"))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):  # users, and the queues of each
        value = frozenset(
            user if queues is None else f"{user}:{'+'.join(sorted(queues))}" for user, queues in value.items()
        )
    if isinstance(value, frozenset):
        value = tuple(sorted(value))
    if isinstance(value, tuple):
        return ",".join(_item(one) for one in value) or "-"
    return "-" if value is None else str(value)


def _item(value: Any) -> str:
    """Return a value of a list; a range of ports is two numbers."""
    return "-".join(str(one) for one in dict.fromkeys(value)) if isinstance(value, tuple) else str(value)
