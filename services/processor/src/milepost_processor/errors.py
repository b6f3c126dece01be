"""What can go wrong for the processor.

ProcessorError
├── HandlersUnusable   a handler package that can't be imported, or that contradicts another
├── GateUnavailable    Redis did not answer who may run the job
├── HandlerExited      an async handler tried to end the process
└── Stopping           the process is going down: leave the job to another one
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
