"""Exceptions that a handler may raise, and those that `Run` and `@job` raise.

RunStopped            raised by the methods of `Run`: the handler must end now
├── Canceled          the job was canceled
├── Interrupted       the processor is stopping; another one resumes the job
├── TimedOut          the attempt has taken longer than `max_runtime`
├── Superseded        the job was redelivered to another processor; this execution's reports and result are discarded
└── Forced            raised anywhere in a handler that did not end in time after it was asked to stop
InputError            raise it if the params ask for something impossible: the job fails without a retry
Reject                raise it to fail the job without a retry
RetryLater            raise it to be called again after a delay
InvalidDefinition     a handler can't be registered
InvalidResult         the returned value does not match the return annotation, or has no JSON form
"""

from datetime import timedelta

from milepost_contracts.messages.delay_levels import MAX_DELAY


class RunStopped(BaseException):
    """The run must end now.

    Like `asyncio.CancelledError`, it is not an `Exception`: a handler's `except Exception` must not catch it.
    """


class Canceled(RunStopped):
    """The job was canceled."""


class Interrupted(RunStopped):
    """The processor is stopping."""


class TimedOut(RunStopped):
    """The attempt has taken longer than `max_runtime`."""


class Superseded(RunStopped):
    """Another processor has the job."""


class Forced(RunStopped):
    """The handler did not end in time after it was asked to stop."""


class InputError(Exception):
    """The params ask for something impossible; the job fails without a retry."""


class Reject(Exception):  # noqa: N818 - used as `raise Reject("…")`
    """The job fails without a retry."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class RetryLater(Exception):  # noqa: N818 - used as `raise RetryLater(after=…)`
    """The handler is called again after a delay; this does not count as a retry. Attempt 10,000 is the last that may.

    Args:
        after: The delay, up to 90 days; rounded up to whole seconds.
        reason: A description; it is the job document's error until the next attempt.

    Raises:
        ValueError: `after` is not positive, or longer than 90 days.
    """

    def __init__(self, *, after: timedelta, reason: str = "the handler asked to be called again") -> None:
        super().__init__(reason)
        if not timedelta(0) < after <= MAX_DELAY:
            raise ValueError(f"after must be more than 0 and at most {MAX_DELAY}: {after}")
        self.after = after


class InvalidDefinition(Exception):  # noqa: N818 - reads as the condition it is
    """This handler can't be registered."""


class InvalidResult(ValueError):  # noqa: N818 - reads as the condition it is
    """The returned value does not match the return annotation, or has no JSON form."""
