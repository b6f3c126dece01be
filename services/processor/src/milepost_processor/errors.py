"""What can go wrong for the processor.

ProcessorError
├── HandlersUnusable   a handler package that can't be imported, or that contradicts another
├── GateUnavailable    Redis did not answer who may run the job
├── HandlerExited      an async handler tried to end the process
├── DeliveredTooOften  the job goes to the undertaker
└── Stopping           the process is going down: leave the job to another one
Forced                 raised inside a handler that would not stop when asked
"""


class ProcessorError(Exception):
    """The processor can't go on as it should."""


class HandlersUnusable(ProcessorError):  # noqa: N818 - these are named as conditions
    """The configured handlers can't be used."""


class GateUnavailable(ProcessorError):  # noqa: N818
    """The gate gives no answer now."""


class HandlerExited(ProcessorError):  # noqa: N818
    """An async handler tried to end the process."""


class Stopping(ProcessorError):  # noqa: N818
    """The process is going down."""


class DeliveredTooOften(ProcessorError):  # noqa: N818
    """This job has been delivered more often than the limit allows."""


class Forced(BaseException):
    """This handler was asked to stop, and has not."""
