"""Progress on standard error: bars on a terminal, lines elsewhere."""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from milepost_client import Client, GroupStatus, JobGroup, JobHandle
from milepost_client.cli.plain import plain
from milepost_contracts.states import Status
from milepost_contracts.status.document import JobDocument

MAX_BARS = 30
"""Maximum number of progress bars; more jobs are shown as lines."""
LINE_INTERVAL = 1.0
"""Minimum seconds between two progress lines of a job."""


def show_progress(client: Client, handles: Sequence[JobHandle]) -> None:
    """Show the progress of jobs until all have ended."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        if console.is_terminal and len(handles) <= MAX_BARS:
            _bars(client, handles, console)
        else:
            _lines(client, handles, console)
    except KeyboardInterrupt:
        state = "The job continues" if len(handles) == 1 else "The jobs continue"
        command = "milepost watch " + " ".join(handle.id for handle in handles[:3])
        console.print(f"{state}. Watch: {command}{' …' if len(handles) > 3 else ''}", markup=False)  # noqa: PLR2004
        raise


def _bars(client: Client, handles: Sequence[JobHandle], console: Console) -> None:
    columns = (
        *((TextColumn("{task.fields[name]}", markup=False),) if len(handles) > 1 else ()),
        TextColumn("{task.fields[status]:>9}", table_column=Column(no_wrap=True, min_width=9)),
        BarColumn(bar_width=30),
        TaskProgressColumn(table_column=Column(no_wrap=True, min_width=4)),
        TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=console, refresh_per_second=10, expand=True) as progress:
        tasks: dict[str, TaskID] = {}
        for handle in handles:
            tasks[handle.id] = progress.add_task("", name=_label(handle.document), total=None, status="")
            progress.update(tasks[handle.id], **_bar(handle.document))
        for handle in client.watch(*handles):
            progress.update(tasks[handle.id], **_bar(handle.document))
            if handle.document.status.terminal:
                progress.stop_task(tasks[handle.id])


def _bar(document: JobDocument) -> dict[str, Any]:
    percent = document.progress.percent if document.progress else None
    if document.status is Status.SUCCEEDED:
        percent = 100.0
    return {
        "completed": percent or 0,
        "total": 100 if percent is not None else None,
        "description": progress_text(document),
        "status": str(document.status),
        "name": _label(document),
    }


def _lines(client: Client, handles: Sequence[JobHandle], console: Console) -> None:
    """Print a line for each change of state, and at most one progress line per job and second."""
    printed: dict[str, tuple[str, float]] = {}

    def print_line(document: JobDocument) -> None:
        status, at = printed.get(document.id, ("", 0.0))
        if status == document.status and (document.status is not Status.RUNNING or monotonic() - at < LINE_INTERVAL):
            return
        printed[document.id] = (document.status, monotonic())
        percent = document.progress.percent if document.progress else None
        share = "" if percent is None else f" {percent:5.1f}%"
        name = f"{_label(document)}  " if len(handles) > 1 else ""
        console.print(f"{name}{document.status:>9}{share}  {progress_text(document)}".rstrip(), markup=False)

    for handle in handles:
        print_line(handle.document)
    for handle in client.watch(*handles):
        print_line(handle.document)


def _label(document: JobDocument) -> str:
    """Return a short name of a job: its type, and the end of its id. Ids of the same time have the same beginning."""
    return f"{document.type or 'job'} …{document.id[-6:]}"


def show_group_progress(group: JobGroup) -> GroupStatus:
    """Show the progress of a group until all its jobs have ended."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    status = GroupStatus(size=0, counts={})
    try:
        if not console.is_terminal:
            for status in group.watch():
                console.print(f"{status.ended} of {status.size} ended  {_counts(status)}", markup=False)
            return status
        columns = (BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
            task = progress.add_task("", total=None)
            for status in group.watch():
                progress.update(task, total=status.size, completed=status.ended, description=escape(_counts(status)))
    except KeyboardInterrupt:
        batches = " ".join(f"milepost list --batch {one}" for one in group.batch_ids[:1])
        console.print(f"The jobs continue. List them: {batches}", markup=False)
        raise
    return status


def _counts(status: GroupStatus) -> str:
    return " · ".join(f"{count} {state}" for state, count in status.counts.items() if count)


def progress_text(document: JobDocument) -> str:
    """Return the progress of a job as one line."""
    progress = document.progress
    if progress is None:
        return f"attempt {document.attempt}" if document.attempt > 1 else ""
    total = "" if progress.total is None else f" of {progress.total:g}"
    words = [progress.message or f"{progress.done:g}{total} {progress.unit or ''}".strip()]
    if progress.eta_seconds and not document.status.terminal:
        words.append(f"{max(1, round(progress.eta_seconds))} s left")
    if progress.rate and not document.status.terminal:
        words.append(f"{_amount(progress.rate, progress.unit)}/s")
    if document.attempt > 1:
        words.append(f"attempt {document.attempt}")
    return plain(" · ".join(words))


def _amount(number: float, unit: str | None) -> str:
    if unit != "bytes":
        return f"{number:.3g} {unit or ''}".strip()
    for prefix in ("B", "kB", "MB", "GB"):
        if number < 1000 or prefix == "GB":  # noqa: PLR2004 - SI prefixes
            break
        number /= 1000
    return f"{number:.3g} {prefix}"
