"""Notices that no thread could run, because a handler held the interpreter or the process was stopped."""

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from milepost_processor import metrics
from milepost_processor.core.execution import Execution

log = structlog.get_logger(__name__)

HELD_AFTER = 1.0
"""Seconds by which a thread must wake up late for this: less is the load of a machine."""
_SHARE = 0.1
"""The share of that time that a handler must have computed to have been running; others may share its processor."""


def thread_time(thread_id: int) -> float:
    """Return the processor time of a thread, in seconds; 0 where the system does not tell."""
    if not hasattr(time, "pthread_getcpuclockid") or all(one.ident != thread_id for one in threading.enumerate()):
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread_id))


class HeldInterpreter:
    """Gives the time back to the executions that could not run. Those that computed meanwhile did run."""

    def __init__(self, *, thread_time: Callable[[int], float] = thread_time) -> None:
        self._thread_time = thread_time
        self._before: dict[int, float] = {}

    def check(self, executions: Sequence[Execution], late: float) -> None:
        """Look at the threads of the running handlers; the caller has woken up `late` seconds late."""
        threads = {execution.thread for execution in executions if execution.thread is not None}
        now = {thread: self._thread_time(thread) for thread in threads}
        if late >= HELD_AFTER:
            computed = {thread: seconds - self._before.get(thread, 0.0) for thread, seconds in now.items()}
            ran = [one for one in executions if computed.get(one.thread or 0, 0.0) >= late * _SHARE]
            self._report(ran, late)
            for execution in executions:
                if execution not in ran:
                    execution.extend(late, innocent=bool(ran))
        self._before |= now  # a thread runs many jobs, one after the other

    def _report(self, ran: Sequence[Execution], late: float) -> None:
        types = {execution.job.type for execution in ran}
        metrics.interpreter_held.labels(type=types.pop() if len(types) == 1 else "").inc(late)
        log.warning(
            "interpreter_held",
            jobs=[execution.job.id for execution in ran],
            types=[execution.job.type for execution in ran],
            seconds=round(late, 1),
            detail="no other handler ran: code in C held the interpreter, or the process was stopped",
        )
