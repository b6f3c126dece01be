"""Ends the processes that a forced handler uses: Python raises nothing in a thread that waits for one or its output.

They are those that a local variable of the handler's calls refers to, as in `with Popen(…) as process`, and their
descendants. Other children of this process may be shared by several jobs.
"""

import multiprocessing.popen_fork
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

GRACE = 2.0
"""Seconds that the processes have to end after SIGTERM, before SIGKILL."""
_PROCESSES = (subprocess.Popen, multiprocessing.popen_fork.Popen)


def end_processes_of(thread_id: int) -> None:
    """End the processes of `subprocess` and `multiprocessing` that the calls of this thread use; on Linux only."""
    used = _used_by(thread_id)
    if not used or not hasattr(os, "pidfd_open"):
        return
    log.warning("handler_processes_ended", process_ids=sorted(used))
    handles = _handles(used | _descendants(used))
    _send(handles, signal.SIGTERM)
    timer = threading.Timer(GRACE, _kill, [handles])
    timer.daemon = True
    timer.start()


def _used_by(thread_id: int) -> set[int]:
    used = set[int | None]()
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - documented, for such special purposes
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if issubclass(type(value), _PROCESSES) and value.returncode is None:  # `isinstance` may run its code
                used.add(getattr(value, "pid", None))
        frame = frame.f_back
    return {process_id for process_id in used if process_id is not None}  # one may be just about to start


def _descendants(process_ids: set[int]) -> set[int]:
    children = defaultdict[int, list[int]](list)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parent = entry.read_text(errors="replace").rpartition(")")[2].split()[1]
            children[int(parent)].append(int(entry.parent.name))
    found, unvisited = set[int](), [*process_ids]
    while unvisited:
        own = children[unvisited.pop()]
        found.update(own)
        unvisited += own
    return found


def _handles(process_ids: set[int]) -> list[int]:
    """Return descriptors of the processes: their ids may belong to others later."""
    handles = []
    for process_id in process_ids:
        with suppress(ProcessLookupError):
            handles.append(os.pidfd_open(process_id))
    return handles


def _send(handles: list[int], number: int) -> None:
    for handle in handles:
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(handle, number)


def _kill(handles: list[int]) -> None:
    _send(handles, signal.SIGKILL)
    for handle in handles:
        os.close(handle)
