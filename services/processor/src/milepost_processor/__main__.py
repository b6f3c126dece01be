"""Runs handlers until stopped. Settings come from the environment, see the README."""

import argparse
import faulthandler
import sys

import structlog

from milepost_processor.adapters.os_process import EXIT_GRACE, crash, end_within
from milepost_processor.bootstrap import run
from milepost_processor.core.handlers import load_handlers
from milepost_processor.core.secret_params import ParamsOpener
from milepost_processor.errors import HandlersUnusable
from milepost_processor.settings import ProcessorSettings
from milepost_service import logs
from milepost_service.sealing import Sealer
from milepost_service.settings import EXIT_MISCONFIGURED, SettingsError, load, print_misconfigured

log = structlog.get_logger(__name__)


def main() -> None:
    """Start the processor, and exit when it has stopped. No thread or child of a handler keeps the process alive."""
    argparse.ArgumentParser(prog="milepost-processor", description=__doc__).parse_args()
    try:
        code = _run()
    except (SettingsError, HandlersUnusable) as error:
        print_misconfigured(str(error))
        code = EXIT_MISCONFIGURED
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        log.critical("processor_crashed", exc_info=True)
        crash()
    end_within(EXIT_GRACE, code)
    sys.exit(code)


def _run() -> int:
    settings = load(ProcessorSettings)
    handlers = load_handlers(settings.handlers, settings.queues)
    opener = ParamsOpener(handlers, Sealer.parse(settings.seal_keys.get_secret_value()))
    if opener.missing_keys:
        raise SettingsError(opener.missing_keys)
    logs.configure(service="processor", level=settings.log_level, log_format=settings.log_format, mask=opener.mask)
    faulthandler.enable(logs.STDERR)
    return run(settings, handlers, opener)


if __name__ == "__main__":
    main()
