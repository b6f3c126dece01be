"""One call of an async handler. It is over when its coroutine is, and all threads that the coroutine started."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
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
        self._threads: set[Future[Any]] = set()

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

    def add_thread(self, thread: Future[Any]) -> None:
        """Note a function that the call runs on a thread."""
        self._threads.add(thread)
        thread.add_done_callback(self._threads.discard)

    async def _run(self) -> tuple[Any, BaseException | None]:
        """Return what the awaitable returns or raises; `SystemExit` raised in a task would end the event loop."""
        with self._lock:
            self._task = asyncio.current_task()
            if self._canceled and self._task is not None:
                self._task.cancel()
        _current.set(self)
        try:
            return await self._awaitable, None
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            return None, error
        finally:
            await self._wait_for_threads()

    async def _wait_for_threads(self) -> None:
        """Wait for threads that run on, because who awaited them was canceled: Python can't stop them."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        while running := tuple(self._threads):
            ended.clear()
            running[0].add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
            with suppress(asyncio.CancelledError):
                await ended.wait()


_current: ContextVar[AsyncCall | None] = ContextVar("current_call", default=None)


class CallThreads(ThreadPoolExecutor):
    """The threads of `asyncio.to_thread`: each belongs to the call that started it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        if (call := _current.get()) is not None:
            call.add_thread(future)
        return future
