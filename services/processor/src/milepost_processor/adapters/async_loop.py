"""The event loop that all async handlers share, on a thread of its own, and who blocks it."""

import asyncio
import sys
import threading
import traceback
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any
from weakref import WeakKeyDictionary

import structlog

from milepost_processor.core.async_call import CallThreads

log = structlog.get_logger(__name__)

BEAT_INTERVAL = 0.1
"""Seconds between two beats of the loop."""
_FRAMES = 4


class _SharedLoop(asyncio.SelectorEventLoop):
    """The standard loop, whose threads no handler can shut down: `asyncio.to_thread` of all jobs would fail."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as in the base
        del timeout
        raise RuntimeError("other jobs share this event loop and its threads: a handler can't shut them down")


class HandlerLoop:
    """Implements `ports.async_loop.AsyncLoop`."""

    def __init__(self) -> None:
        self.beats = 0
        self._loop = _SharedLoop()
        self._loop.set_task_factory(self._create_task)
        self._loop.set_default_executor(CallThreads(thread_name_prefix="async handler"))
        self._jobs: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()
        self._thread = threading.Thread(target=self._run_loop, name="async handlers", daemon=True)

    def start(self) -> None:
        self._loop.call_soon(self._beat)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    @property
    def is_alive(self) -> bool:
        """Whether it runs: a handler may stop it."""
        return self._thread.is_alive()

    @property
    def thread_id(self) -> int:
        return self._thread.ident or 0

    def current_job(self) -> str | None:
        task = asyncio.current_task(self._loop)
        return None if task is None else self._jobs.get(task)

    def where(self) -> str:
        frame = sys._current_frames().get(self.thread_id)  # noqa: SLF001 - documented, for debuggers
        frames = traceback.extract_stack(frame)[-_FRAMES:] if frame else []
        return " > ".join(f"{one.filename}:{one.lineno} {one.name}" for one in frames)

    def _run_loop(self) -> None:
        """Run the loop until it is stopped. asyncio raises here what a task of a handler raised to end the process."""
        while True:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                log.warning("async_task_exited", error=repr(error), detail="the event loop goes on")
            else:
                return

    def _beat(self) -> None:
        self.beats += 1
        self._loop.call_later(BEAT_INTERVAL, self._beat)

    def _create_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """Create a task, and note whose it is: a handler's own tasks have its context."""
        task = asyncio.Task(coroutine, loop=loop, **options)
        if job_id := structlog.contextvars.get_contextvars().get("job_id"):
            self._jobs[task] = job_id
        return task
