"""Ends the process that a handler waits for: Python raises nothing in a thread while `subprocess.run` waits.

Only what the thread waits for is ended, with its descendants: other children may be shared by several jobs.
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


def end_awaited_process(thread_id: int) -> None:
    """End the process that this thread waits for with `subprocess` or `multiprocessing`, if it does; on Linux only."""
    awaited = _awaited_by(thread_id)
    if awaited is None or not hasattr(os, "pidfd_open"):
        return
    log.warning("awaited_process_ended", process_id=awaited)
    handles = _handles([awaited, *_descendants(awaited)])
    _send(handles, signal.SIGTERM)
    timer = threading.Timer(GRACE, _kill, [handles])
    timer.daemon = True
    timer.start()


def _awaited_by(thread_id: int) -> int | None:
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - documented, for such special purposes
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, subprocess.Popen | multiprocessing.popen_fork.Popen) and caller.returncode is None:
            return caller.pid
        frame = frame.f_back
    return None


def _descendants(process_id: int) -> list[int]:
    children = defaultdict[int, list[int]](list)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parent = entry.read_text(errors="replace").rpartition(")")[2].split()[1]
            children[int(parent)].append(int(entry.parent.name))
    found, unvisited = list[int](), [process_id]
    while unvisited:
        own = children[unvisited.pop()]
        found += own
        unvisited += own
    return found


def _handles(process_ids: list[int]) -> list[int]:
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
