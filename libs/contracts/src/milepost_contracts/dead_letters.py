"""What the broker gave up, as the gateway tells of it and clients read it."""

from pydantic import AwareDatetime

from milepost_contracts.values import JobError, Value


class DeadLetter(Value):
    """A job that was given up."""

    job_id: str
    type: str
    queue: str
    run: int
    given_up_at: AwareDatetime | None
    error: JobError | None


class Unreadable(Value):
    """A message that nobody could read."""

    id: str
    reason: str
    #: The queue that it came from.
    queue: str
    at: AwareDatetime
    #: Bytes.
    size: int
    #: Its beginning, as text.
    excerpt: str


class DeadLetters(Value):
    items: tuple[DeadLetter, ...]
    unreadable: tuple[Unreadable, ...]
