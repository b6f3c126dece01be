"""`milepost-tracker`: projects until it is told to stop. Settings come from the environment, see its README."""

import argparse
import asyncio

from milepost_rabbit.errors import TopologyMismatch
from milepost_service import logs
from milepost_service.settings import SettingsError, exit_misconfigured, load
from milepost_tracker.bootstrap import run
from milepost_tracker.settings import TrackerSettings


def main() -> None:
    """Start the tracker."""
    argparse.ArgumentParser(prog="milepost-tracker", description=__doc__).parse_args()
    try:
        settings = load(TrackerSettings)
    except SettingsError as error:
        exit_misconfigured(str(error))
    logs.configure(service="tracker", level=settings.log_level, log_format=settings.log_format)
    try:
        asyncio.run(run(settings))
    except (SettingsError, TopologyMismatch) as error:
        exit_misconfigured(str(error))


if __name__ == "__main__":
    main()
