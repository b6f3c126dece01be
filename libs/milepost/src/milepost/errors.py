"""What a handler may raise, and what is raised inside it.

RunStopped            raised by `run.progress()` and `run.checkpoint()`: leave now
├── Canceled          somebody canceled the job
├── Interrupted       the processor is stopping; the job goes on elsewhere
├── TimedOut          the attempt has taken longer than its type allows
└── Superseded        the job was delivered again and another attempt has it: nothing that this one says counts
InputError            raise it when the params ask for something impossible: the job fails, told plainly
Reject                raise it to fail the job for good, whatever retries are left
RetryLater            raise it to be called again after a while
InvalidDefinition     a handler that can't be registered
InvalidResult         what a handler returned is not what it says, or has no JSON form
"""

from datetime import timedelta

from milepost_contracts.delay import MAX_DELAY


class RunStopped(BaseException):
    """The run must end now.

    Not an `Exception`, as `asyncio.CancelledError` is not: a handler's own `except Exception` must not swallow it.
    """


class Canceled(RunStopped):
    """The job was canceled."""


class Interrupted(RunStopped):
    """The processor is stopping."""


class TimedOut(RunStopped):
    """The attempt has taken too long."""


class Superseded(RunStopped):
    """Another attempt has the job."""


class InputError(Exception):
    """What the job was asked for can't be done."""


class Reject(Exception):  # noqa: N818 - a handler says `raise Reject("…")`
    """The job fails now, and is not retried."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class RetryLater(Exception):  # noqa: N818 - a handler says `raise RetryLater(after=…)`
    """The job is tried again after a while; this does not use up the type's retries.

    Args:
        after: How long to wait: a second to 90 days; the broker counts whole seconds, rounded up.
        reason: For people; it is the document's error until the next attempt.
    """

    def __init__(self, *, after: timedelta, reason: str = "the handler asked to be called again") -> None:
        super().__init__(reason)
        if not timedelta(0) < after <= MAX_DELAY:
            raise ValueError(f"after must be within 0 and {MAX_DELAY}, and is {after}")
        self.after = after


class InvalidDefinition(Exception):  # noqa: N818 - reads as the condition it is
    """This handler can't be registered."""


class InvalidResult(ValueError):  # noqa: N818 - reads as the condition it is
    """What the handler returned can't be a result."""
