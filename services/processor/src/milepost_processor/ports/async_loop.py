"""The event loop that all async handlers share."""

from typing import Protocol


class AsyncLoop(Protocol):
    """What can be seen of the loop from other threads, also while a handler blocks it."""

    @property
    def beats(self) -> int:
        """Grows several times a second while the loop runs."""

    @property
    def thread_id(self) -> int:
        """The identity of its thread."""

    def current_job(self) -> str | None:
        """Return the id of the job whose task runs now; `None` if that is not known."""

    def where(self) -> str:
        """Return the innermost lines of code that run now."""
