"""Standard output of the command line."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pydantic_core
from pydantic import BaseModel
from rich.console import Console
from rich.filesize import decimal
from rich.table import Column, Table

from milepost_client import JobHandle
from milepost_client.cli.plain import plain, plain_json
from milepost_client.cli.progress import progress_text
from milepost_contracts.http.access import ApiKey
from milepost_contracts.http.dead_letters import DeadLetterPage
from milepost_contracts.http.webhooks import WebhookTries
from milepost_contracts.messages.worker_events import Heartbeat, JobType, QueueInfo
from milepost_contracts.status.document import JobDocument

NOT_STARTED = ("scheduled", "queued")
WAITING = ("scheduled", "retrying")
MAX_TRACEBACK_LINES = 20
"""A longer traceback is shortened in the middle."""
COLORS = {"succeeded": "green", "failed": "red", "canceled": "yellow", "running": "cyan"}


class _PlainTable(Table):
    """A table that escapes control characters in its cells."""

    def add_row(self, *cells: str, **options: Any) -> None:  # type: ignore[override]
        super().add_row(*map(plain, cells), **options)


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """Print a document, or a list of them, as indented JSON."""
    sys.stdout.write(plain_json(pydantic_core.to_jsonable_python(value)) + "\n")


def print_submitted(handle: JobHandle) -> None:
    """Print only the id on standard output, and the command to watch the job on standard error."""
    sys.stdout.write(handle.id + "\n")
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"Accepted. Watch it: milepost status {handle.id} --watch", markup=False
    )


def print_document(document: JobDocument) -> None:
    """Print a job as human-readable text."""
    console = Console(highlight=False, soft_wrap=True)
    color = COLORS.get(document.status, "white")
    console.print(f"{document.type or 'job'} {document.id}  [{color}]{document.status}[/]")
    rows = {
        "attempt": str(document.attempt) if document.attempt > 1 else None,
        "run at": _when(document.run_at) if document.run_at and document.status in WAITING else None,
        "start by": _when(document.start_by) if document.start_by and document.status in NOT_STARTED else None,
        "waiting": _waiting(document),
        "cancel": _cancel(document),
        "progress": progress_text(document) or None,
        "created": _when(document.created_at),
        "took": _took(document),
        "error": _error(document),
        "items": f"{document.items.count}, latest:" if document.items.count else None,
    }
    for name, text in rows.items():
        if text:
            console.print(f"  {name:<9} {plain(text)}", markup=False)
    for item in document.items.last[-3:]:
        console.print(f"            {plain(json.dumps(item, ensure_ascii=False))}", markup=False)
    if document.error and document.error.traceback:
        lines = _shortened(plain(document.error.traceback).splitlines())
        console.print("\n".join("    " + line for line in lines), markup=False)
    for file in document.outputs:
        console.print(f"  file      {plain(file.name)}, {_bytes(file.size)}", markup=False)
    if document.result_file is not None:
        about = f"{_bytes(document.result_file.size)} of {document.result_file.media_type}"
        console.print(f"  result    {plain(document.result_file.name)}, {plain(about)}", markup=False)
    if document.outputs or document.result_file is not None:
        console.print(f"            Save: milepost download {document.id}", markup=False)
    if document.result is not None:
        console.print("  result", markup=False)
        text = plain_json(document.result)
        console.print("\n".join("    " + line for line in text.splitlines()), markup=False)


def _shortened(lines: list[str]) -> list[str]:
    """Return the beginning of a traceback, which has the author's line, and its end, which has the error."""
    return lines if len(lines) <= MAX_TRACEBACK_LINES else [*lines[:5], "  …", *lines[5 - MAX_TRACEBACK_LINES :]]


def _bytes(size: int) -> str:
    return decimal(size) if size else "empty"


def _waiting(document: JobDocument) -> str | None:
    """Return why nobody can start the job, if that is known."""
    return str(document.waiting.get("detail") or "") if isinstance(document.waiting, dict) else None


def _cancel(document: JobDocument) -> str | None:
    request = document.cancel_requested
    if request is None:
        return None
    return f"requested at {_when(request.at)}" + (f", {request.how}" if request.how else "")


def _error(document: JobDocument) -> str | None:
    error = document.error
    return f"{error.exception or error.kind}: {error.message}" if error else None


def print_jobs(documents: Sequence[JobDocument]) -> None:
    """Print one line for each job."""
    table = _PlainTable(Column("id", no_wrap=True), "type", "status", "progress", "age", box=None, pad_edge=False)
    for one in documents:
        percent = one.progress.percent if one.progress else None
        table.add_row(
            one.id,
            one.type or "",
            str(one.status),
            "" if percent is None else f"{percent:.0f}%",
            _age(one.created_at),
        )
    _print_table(table, len(documents), "No jobs.")


def print_processors(heartbeats: Sequence[Heartbeat]) -> None:
    """Print one line for each processor."""
    table = _PlainTable(
        Column("instance", no_wrap=True), "queues", "running", "threads", "started", "version", box=None, pad_edge=False
    )
    for one in heartbeats:
        queues = ", ".join(one.queues)
        table.add_row(one.instance, queues, str(len(one.running)), str(one.threads), _when(one.started_at), one.version)
    _print_table(table, len(heartbeats), "No live processors. Start a processor.")


def print_queues(queues: Sequence[QueueInfo]) -> None:
    """Print one line for each queue."""
    table = _PlainTable(Column("queue", no_wrap=True), "ready", "processors", "threads", box=None, pad_edge=False)
    for one in queues:
        table.add_row(one.name, str(one.ready), str(one.live_processors), str(one.threads))
    _print_table(table, len(queues), "No queues yet. Start a processor.")


def print_keys(keys: Sequence[ApiKey]) -> None:
    """Print one line for each key."""
    table = _PlainTable(
        Column("id", no_wrap=True), "tenant", "scopes", "created", "expires", "note", box=None, pad_edge=False
    )
    for key in keys:
        expires = "never" if key.expires_at is None else _when(key.expires_at)
        scopes = ", ".join(sorted(key.scopes))
        table.add_row(key.id, key.tenant, scopes, _when(key.created_at), expires, key.note or "")
    _print_table(table, len(keys), "No keys.")


def print_webhooks(found: WebhookTries) -> None:
    """Print one line for each delivery attempt."""
    columns = ("webhook-id", "event", "attempt", "outcome", "response", "next attempt")
    table = _PlainTable(Column("at", no_wrap=True), *columns, box=None, pad_edge=False)
    finished = {one.webhook_id for one in found.items if one.outcome in ("delivered", "gone")}
    for one in found.items:
        response = one.error or (str(one.status_code) if one.status_code else "")
        next_attempt = _when(one.next_at) if one.next_at and one.webhook_id not in finished else ""
        number = f"{one.number}, redelivery" if one.asked else str(one.number)
        table.add_row(_when(one.at), one.webhook_id, one.event, number, one.outcome, response, next_attempt)
    _print_table(table, len(found.items), "No webhook was sent yet.")


def print_dead_letters(found: DeadLetterPage) -> None:
    """Print one line for each dead-lettered job and each unreadable message."""
    table = _PlainTable(Column("id", no_wrap=True), "type", "queue", "dead since", "reason", box=None, pad_edge=False)
    for one in found.items:
        when = _when(one.given_up_at) if one.given_up_at else ""
        table.add_row(one.job_id, one.type, one.queue, when, one.error.message if one.error else "")
    for message in found.unreadable:
        table.add_row(message.id, "(unreadable)", message.queue, _when(message.at), message.reason)
    _print_table(table, len(found.items) + len(found.unreadable), "No dead letters.")


def print_types(types: Sequence[JobType]) -> None:
    """Print one line for each job type."""
    table = _PlainTable("type", "queue", "params", "what it does", box=None, pad_edge=False)
    for one in types:
        required = one.params_schema.get("required", [])
        names = (name if name in required else f"[{name}]" for name in one.params_schema.get("properties", {}))
        table.add_row(one.type, one.queue, " ".join(names), one.title)
    _print_table(table, len(types), "No job types yet. Start a processor.")


def _print_table(table: Table, count: int, if_empty: str) -> None:
    if not count:
        Console(stderr=True).print(if_empty)
        return
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=200)
    console.print(table)


def _when(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _age(moment: datetime) -> str:
    """Return the age in the largest fitting unit."""
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _took(document: JobDocument) -> str | None:
    if document.started_at is None or document.finished_at is None:
        return None
    return f"{(document.finished_at - document.started_at).total_seconds():.1f} s"
