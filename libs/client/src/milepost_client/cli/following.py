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
from milepost_contracts.document import JobDocument
from milepost_contracts.states import Status

MOST_BARS = 30
"""More jobs than that are lines: nobody reads as many bars."""
LINE_EVERY = 1.0
"""Seconds between two lines about the progress of a job."""


def follow(client: Client, handles: Sequence[JobHandle]) -> None:
    """Show the progress of jobs until all have ended."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        if console.is_terminal and len(handles) <= MOST_BARS:
            _bars(client, handles, console)
        else:
            _lines(client, handles, console)
    except KeyboardInterrupt:
        some = "The job goes on" if len(handles) == 1 else "The jobs go on"
        again = "milepost watch " + " ".join(handle.id for handle in handles[:3])
        console.print(f"{some}. To look again: {again}{' …' if len(handles) > 3 else ''}", markup=False)  # noqa: PLR2004
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
            tasks[handle.id] = progress.add_task("", name=_short(handle.document), total=None, status="")
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
        "description": told(document),
        "status": str(document.status),
        "name": _short(document),
    }


def _lines(client: Client, handles: Sequence[JobHandle], console: Console) -> None:
    """Print a line for each change of a state, and of progress one a second: they stay in some log."""
    said: dict[str, tuple[str, float]] = {}

    def say(document: JobDocument) -> None:
        status, at = said.get(document.id, ("", 0.0))
        if status == document.status and (document.status is not Status.RUNNING or monotonic() - at < LINE_EVERY):
            return
        said[document.id] = (document.status, monotonic())
        percent = document.progress.percent if document.progress else None
        share = "" if percent is None else f" {percent:5.1f}%"
        name = f"{_short(document)}  " if len(handles) > 1 else ""
        console.print(f"{name}{document.status:>9}{share}  {told(document)}".rstrip(), markup=False)

    for handle in handles:
        say(handle.document)
    for handle in client.watch(*handles):
        say(handle.document)


def _short(document: JobDocument) -> str:
    """Name a job in few letters; ids that were made at the same time begin alike."""
    return f"{document.type or 'job'} …{document.id[-6:]}"


def follow_group(group: JobGroup) -> GroupStatus:
    """Show how far many jobs are until all have ended."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    status = GroupStatus(size=0, counts={})
    try:
        if not console.is_terminal:
            for status in group.watch():
                console.print(f"{status.ended} of {status.size} ended  {_counted(status)}", markup=False)
            return status
        columns = (BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
            task = progress.add_task("", total=None)
            for status in group.watch():
                progress.update(task, total=status.size, completed=status.ended, description=escape(_counted(status)))
    except KeyboardInterrupt:
        batches = " ".join(f"milepost list --batch {one}" for one in group.batch_ids[:1])
        console.print(f"The jobs go on. To look again: {batches}", markup=False)
        raise
    return status


def _counted(status: GroupStatus) -> str:
    return " · ".join(f"{count} {state}" for state, count in status.counts.items() if count)


def told(document: JobDocument) -> str:
    """Say in a line how far a job is."""
    progress = document.progress
    if progress is None:
        return f"attempt {document.attempt}" if document.attempt > 1 else ""
    total = "" if progress.total is None else f" of {progress.total:g}"
    words = [progress.message or f"{progress.done:g}{total} {progress.unit or ''}".strip()]
    if progress.eta_seconds and not document.status.terminal:
        words.append(f"{progress.eta_seconds:.0f} s left")
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
