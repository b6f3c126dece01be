"""Runs handlers until stopped. Settings come from the environment, see the README."""

import faulthandler
import sys
from datetime import timedelta

import structlog

from milepost_processor.adapters.os_process import EXIT_GRACE, crash, end_within
from milepost_processor.bootstrap import load_parts, run
from milepost_processor.check import report
from milepost_processor.errors import HandlersUnusable
from milepost_processor.settings import ProcessorSettings
from milepost_redis.server_check import UnsafeRedis
from milepost_service import check, logs
from milepost_service.settings import EXIT_MISCONFIGURED, SettingsError, load, print_misconfigured

log = structlog.get_logger(__name__)

REFUSAL_GRACE = timedelta(seconds=15)
"""How long the exit may take if no job has run: nobody waits to kill the process, and the exit code matters."""


def main() -> None:
    """Start the processor, and exit when it has stopped. No thread or child of a handler keeps the process alive."""
    arguments = check.parser("processor", "Run handlers until SIGTERM or SIGINT.").parse_args()
    try:
        code = _check() if arguments.check else _run()
    except SettingsError as error:
        print_misconfigured(*(error.problems if arguments.check else error.problems[:1]))
        code = EXIT_MISCONFIGURED
    except (UnsafeRedis, HandlersUnusable) as error:
        print_misconfigured(str(error))
        code = EXIT_MISCONFIGURED
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        log.critical("processor_crashed", exc_info=True)
        crash()
    end_within(REFUSAL_GRACE if arguments.check or code == EXIT_MISCONFIGURED else EXIT_GRACE, code)
    sys.exit(code)


def _check() -> int:
    settings = load(ProcessorSettings)
    handlers, _ = load_parts(settings)
    return report(settings, handlers)


def _run() -> int:
    settings = load(ProcessorSettings)
    handlers, opener = load_parts(settings)
    logs.configure(service="processor", level=settings.log_level, log_format=settings.log_format, mask=opener.mask)
    faulthandler.enable(logs.STDERR)
    return run(settings, handlers, opener)


if __name__ == "__main__":
    main()
