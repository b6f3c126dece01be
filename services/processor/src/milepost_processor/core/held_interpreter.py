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
_SHARE = 0.5
"""The share of that time that the handler which held the interpreter must have computed."""


def thread_time(thread_id: int) -> float:
    """Return the processor time of a thread, in seconds; 0 where the system does not tell."""
    if not hasattr(time, "pthread_getcpuclockid") or all(one.ident != thread_id for one in threading.enumerate()):
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread_id))


class HeldInterpreter:
    """Gives the time back to the executions that could not run; who held the interpreter is told by its computing."""

    def __init__(self, *, thread_time: Callable[[int], float] = thread_time) -> None:
        self._thread_time = thread_time
        self._before: dict[int, float] = {}

    def check(self, executions: Sequence[Execution], late: float) -> None:
        """Look at the threads of the running handlers; the caller has woken up `late` seconds late."""
        threads = {execution.thread for execution in executions if execution.thread is not None}
        now = {thread: self._thread_time(thread) for thread in threads}
        if late >= HELD_AFTER:
            computed = {thread: seconds - self._before.get(thread, seconds) for thread, seconds in now.items()}
            guilty = next((one for one in executions if computed.get(one.thread or 0, 0.0) >= late * _SHARE), None)
            self._report(guilty, late)
            for execution in executions:
                if execution is not guilty:
                    execution.extend(late, innocent=guilty is not None)
        self._before = now

    def _report(self, guilty: Execution | None, late: float) -> None:
        metrics.interpreter_held.labels(type=guilty.job.type if guilty else "").inc(late)
        log.warning(
            "interpreter_held",
            job_id=guilty and guilty.job.id,
            type=guilty and guilty.job.type,
            seconds=round(late, 1),
            detail="no other handler ran: code in C held the interpreter, or the process was stopped",
        )
