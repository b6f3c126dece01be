"""Projects events into the status view until stopped. Settings come from the environment, see the README.

`milepost-tracker rebuild` rebuilds the status view from the log, beside live traffic; `milepost-tracker reconcile`
compares the open jobs of the view with the jobs that RabbitMQ and the processors hold.
"""

import argparse
import asyncio
import re
import sys
import time
from datetime import datetime, timedelta

import uvloop

from milepost_contracts.clock import now
from milepost_contracts.messages.senders import Role
from milepost_rabbit.errors import TopologyMismatch
from milepost_redis.server_check import ServerCheck, UnsafeRedis
from milepost_service import check, logs
from milepost_service.exemptions import Exemption
from milepost_service.settings import SettingsError, exit_misconfigured, load
from milepost_tracker.bootstrap import rebuild, reconcile_once, run
from milepost_tracker.check import report
from milepost_tracker.core.reconciliation import Reconciliation
from milepost_tracker.core.replay import Replayed
from milepost_tracker.errors import EventLogUnavailable, StoreUnavailable
from milepost_tracker.settings import TrackerSettings

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def main() -> None:
    """Start the tracker, or run its subcommand."""
    arguments = _parser().parse_args()
    try:
        settings = load(TrackerSettings)
        settings.check_own_user(Role.TRACKER)
    except SettingsError as error:
        exit_misconfigured(*(error.problems if arguments.check else error.problems[:1]))
    if arguments.check:
        sys.exit(report(settings))
    level = settings.log_level if arguments.command in (None, "run") else "error"
    logs.configure(service="tracker", level=level, log_format=settings.log_format)
    try:
        if arguments.command == "rebuild":
            _rebuild(settings, arguments.since)
        elif arguments.command == "reconcile":
            _reconcile(settings)
        else:
            redis_check = ServerCheck(
                str(settings.redis_url), allow_eviction=Exemption.EVICTING_REDIS in settings.allow
            )
            redis_check.start()
            uvloop.run(run(settings))
            redis_check.raise_if_refused()
    except (SettingsError, UnsafeRedis, TopologyMismatch) as error:
        exit_misconfigured(str(error))
    except (EventLogUnavailable, StoreUnavailable) as error:
        sys.exit(f"milepost-tracker: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = check.parser("tracker", "Project events into the status view until SIGTERM or SIGINT.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", help="project events until stopped (the default)")
    rebuilding = commands.add_parser("rebuild", help="rebuild the status view from the log")
    rebuilding.add_argument(
        "--since",
        type=_moment,
        metavar="WHEN",
        help="only events since then: 90s, 30m, 2h, 7d, or a time such as 2026-01-31T12:00:00Z; all by default",
    )
    commands.add_parser("reconcile", help="compare the open jobs of the view with the jobs that are held")
    return parser


def _moment(text: str) -> datetime:
    length = re.fullmatch(r"(\d+)([smhd])", text)
    if length:
        return now() - timedelta(**{_UNITS[length[2]]: int(length[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a duration nor a time") from None
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone: add Z for UTC")
    return moment


def _rebuild(settings: TrackerSettings, since: datetime | None) -> None:
    begun = time.monotonic()

    def report(so_far: Replayed) -> None:
        rate = so_far.read / (time.monotonic() - begun)
        _print_error(f"{so_far.read} events read, {so_far.changed} documents written, {rate:.0f} events/s")

    done = asyncio.run(rebuild(settings, since, report))
    _print_error(f"rebuilt in {time.monotonic() - begun:.1f} s: {done.read} events, {done.changed} documents written")


def _reconcile(settings: TrackerSettings) -> None:
    reconciliation = asyncio.run(reconcile_once(settings))
    _print(_table(reconciliation))
    if reconciliation.difference:
        _print_error(
            "Alert when the difference is not zero for five minutes: jobs that move may be counted twice or not at all."
        )
        sys.exit(1)


def _table(reconciliation: Reconciliation) -> str:
    rows = [
        ("by the view", ""),
        *((f"  {name}", str(count)) for name, count in {**reconciliation.open, **reconciliation.ended}.items()),
    ]
    rows += [("held", ""), *((f"  {name}", str(count)) for name, count in reconciliation.held.items())]
    rows.append(("difference", str(reconciliation.difference)))
    rows += [("oldest open jobs", "")] * bool(reconciliation.oldest) + [
        (f"  {job_id}", "") for job_id in reconciliation.oldest
    ]
    return "\n".join(f"{name:<16} {count:>8}".rstrip() for name, count in rows)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _print_error(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
