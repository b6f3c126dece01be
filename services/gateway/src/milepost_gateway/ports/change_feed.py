"""Notifications that jobs have changed."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Protocol

#: Called with the id of a job that has changed.
Notify = Callable[[str], None]


class Listener:
    """Waits for changes of some jobs."""

    def __init__(self) -> None:
        self._notified = asyncio.Event()
        self._job_ids: set[str] = set()

    def notify(self, job_id: str) -> None:
        """Record that this job has changed."""
        self._job_ids.add(job_id)
        self._notified.set()

    async def wait(self, within: float) -> set[str]:
        """Return the jobs that have changed since the last call, once one has; none after `within` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._notified.wait()
        self._notified.clear()
        job_ids, self._job_ids = self._job_ids, set()
        return job_ids


class ChangeFeed(Protocol):
    """Notifies of changes: a notification may be lost, and is then made up for within some seconds."""

    def listen(self, job_ids: Sequence[str]) -> AbstractAsyncContextManager[Listener]:
        """Notify of changes of these jobs while the context lasts."""

    def subscribe(self, job_id: str, notify: Notify) -> asyncio.Event:
        """Notify of a job's changes until `unsubscribe`.

        Return an event: no notification is missed from when it is set until it is cleared, for good. Whether one was
        lost by then, `all_received` returns.
        """

    def unsubscribe(self, job_id: str, notify: Notify) -> None:
        """Stop notifying."""

    async def all_received(self) -> bool:
        """Return true once every notification has arrived that was under way at the time of the call.

        False if that can't be known: the subscription was lost.
        """

    def listen_to_tag(self, tenant: str, tag: str) -> AbstractAsyncContextManager[Listener]:
        """Notify of changes of a tenant's jobs with this tag; a lost notification is not made up for."""
