"""Runs handlers until stopped. Settings come from the environment, see the README."""

import argparse
import sys

from milepost_processor.bootstrap import run
from milepost_processor.core.handlers import load_handlers
from milepost_processor.errors import HandlersUnusable
from milepost_processor.settings import ProcessorSettings
from milepost_service import logs
from milepost_service.settings import SettingsError, exit_misconfigured, load


def main() -> None:
    """Start the processor."""
    argparse.ArgumentParser(prog="milepost-processor", description=__doc__).parse_args()
    try:
        settings = load(ProcessorSettings)
        handlers = load_handlers(settings.handlers, settings.queues)
    except (SettingsError, HandlersUnusable) as error:
        exit_misconfigured(str(error))
    logs.configure(service="processor", level=settings.log_level, log_format=settings.log_format)
    try:
        sys.exit(run(settings, handlers))
    except SettingsError as error:
        exit_misconfigured(str(error))


if __name__ == "__main__":
    main()
