"""What a handler may raise, and what is raised inside it.

RunStopped            raised by `run.progress()` and `run.checkpoint()`: leave now
├── Canceled          somebody canceled the job
└── Interrupted       the processor is stopping; the job runs again elsewhere
InputError            raise it when the params ask for something impossible: the job fails, told plainly
InvalidDefinition     a handler that can't be registered
"""


class RunStopped(BaseException):
    """The run must end now.

    Not an `Exception`, as `asyncio.CancelledError` is not: a handler's own `except Exception` must not swallow it.
    """


class Canceled(RunStopped):
    """The job was canceled."""


class Interrupted(RunStopped):
    """The processor is stopping."""


class InputError(Exception):
    """What the job was asked for can't be done."""


class InvalidDefinition(Exception):  # noqa: N818 - reads as the condition it is
    """This handler can't be registered."""
