"""`milepost-tracker`: projects until it is told to stop. Settings come from the environment, see its README.

`milepost-tracker rebuild` refills the status view from the log, beside live traffic; `milepost-tracker reconcile`
compares what the view has open with what anybody holds.
"""

import argparse
import asyncio
import re
import sys
import time
from datetime import datetime, timedelta

import uvloop

from milepost_contracts.envelope import now
from milepost_rabbit.errors import TopologyMismatch
from milepost_service import logs
from milepost_service.settings import SettingsError, exit_misconfigured, load
from milepost_tracker.bootstrap import look_at_books, rebuild, run
from milepost_tracker.errors import LogUnavailable, StoreUnavailable
from milepost_tracker.reconcile import Books
from milepost_tracker.replay import Replayed
from milepost_tracker.settings import TrackerSettings

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def main() -> None:
    """Start the tracker, or do what its subcommand says."""
    arguments = _parser().parse_args()
    try:
        settings = load(TrackerSettings)
    except SettingsError as error:
        exit_misconfigured(str(error))
    level = settings.log_level if arguments.command in (None, "run") else "error"
    logs.configure(service="tracker", level=level, log_format=settings.log_format)
    try:
        if arguments.command == "rebuild":
            _rebuild(settings, arguments.since)
        elif arguments.command == "reconcile":
            _reconcile(settings)
        else:
            uvloop.run(run(settings))
    except (SettingsError, TopologyMismatch) as error:
        exit_misconfigured(str(error))
    except (LogUnavailable, StoreUnavailable) as error:
        sys.exit(f"milepost-tracker: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="milepost-tracker", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", help="project until told to stop (the default)")
    rebuilding = commands.add_parser("rebuild", help="refill the status view from the log")
    rebuilding.add_argument(
        "--since",
        type=_moment,
        metavar="WHEN",
        help="only what was logged since: 90s, 30m, 2h, 7d, or a time such as 2026-01-31T12:00:00Z; all by default",
    )
    commands.add_parser("reconcile", help="compare what the view has open with what anybody holds")
    return parser


def _moment(text: str) -> datetime:
    length = re.fullmatch(r"(\d+)([smhd])", text)
    if length:
        return now() - timedelta(**{_UNITS[length[2]]: int(length[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time and no time") from None
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone: add Z for UTC")
    return moment


def _rebuild(settings: TrackerSettings, since: datetime | None) -> None:
    begun = time.monotonic()

    def tell(so_far: Replayed) -> None:
        rate = so_far.read / (time.monotonic() - begun)
        _say(f"{so_far.read} events read, {so_far.changed} documents written, {rate:.0f} events/s")

    done = asyncio.run(rebuild(settings, since, tell))
    _say(f"rebuilt in {time.monotonic() - begun:.1f} s: {done.read} events, {done.changed} documents written")


def _reconcile(settings: TrackerSettings) -> None:
    books = asyncio.run(look_at_books(settings))
    _print(_table(books))
    if books.difference:
        _say("a difference that stays is an alarm; one look may catch jobs on their way")
        sys.exit(1)


def _table(books: Books) -> str:
    rows = [("by the view", ""), *((f"  {name}", str(count)) for name, count in {**books.open, **books.ended}.items())]
    rows += [("held", ""), *((f"  {name}", str(count)) for name, count in books.held.items())]
    rows.append(("difference", str(books.difference)))
    rows += [("open the longest", "")] * bool(books.oldest) + [(f"  {job_id}", "") for job_id in books.oldest]
    return "\n".join(f"{name:<14} {count:>8}".rstrip() for name, count in rows)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
