"""Dead letters as the gateway answers and clients read them."""

from pydantic import AwareDatetime

from milepost_contracts.values import JobError, Value


class DeadLetter(Value):
    """A job that was dead-lettered."""

    job_id: str
    type: str
    queue: str
    run: int
    given_up_at: AwareDatetime | None
    error: JobError | None


class Unreadable(Value):
    """A message that could not be parsed."""

    id: str
    reason: str
    queue: str
    """The queue that it came from."""
    at: AwareDatetime
    size: int
    """Bytes."""
    excerpt: str
    """The beginning of its body, as text."""


class DeadLetterPage(Value):
    items: tuple[DeadLetter, ...]
    unreadable: tuple[Unreadable, ...]
