"""One call of an async handler, on the event loop. It is over when its coroutine is."""

import asyncio
import threading
from collections.abc import Awaitable
from typing import Any

from milepost_processor.ports.async_runner import AsyncRunner


class AsyncCall:
    """Awaits what an async handler returned, and can be canceled from any thread.

    The future of a coroutine on another loop is no use here: canceled, it is done at once, while the coroutine goes on.
    """

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable
        self._task: asyncio.Task[Any] | None = None
        self._canceled = False
        self._lock = threading.Lock()

    def result(self, run_async: AsyncRunner) -> Any:
        """Run the call, and return or raise what it returns or raises once it is over."""
        returned, raised = run_async(self._run()).result()
        if raised is not None:
            raise raised
        return returned

    def cancel(self) -> None:
        """Raise `CancelledError` in the coroutine, at what it awaits. It may take its time, and may catch it."""
        with self._lock:
            self._canceled = True
            if self._task is not None:
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    async def _run(self) -> tuple[Any, BaseException | None]:
        """Return what the awaitable returns or raises; `SystemExit` raised in a task would end the event loop."""
        with self._lock:
            self._task = asyncio.current_task()
            if self._canceled and self._task is not None:
                self._task.cancel()
        try:
            return await self._awaitable, None
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            return None, error
