"""`milepost batch`: submit many jobs from a file."""

import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from milepost_client import Client, GroupStatus, JobGroup, PartlySubmitted, Status, Submission
from milepost_client.cli.options import AsJson, complete_types, connected
from milepost_client.cli.params import json_or_text, text_fields
from milepost_client.cli.plain import check_texts, plain, read_json
from milepost_client.cli.progress import show_group_progress

FAILED, REFUSED, CANCELED = 1, 2, 3

app = typer.Typer()


class Row(BaseModel):
    """A line of the file that describes a job completely."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    params: dict[str, Any] = {}
    tags: list[str] = []
    run_at: AwareDatetime | None = None
    #: Seconds.
    delay: timedelta | None = None
    #: Seconds.
    expires_in: timedelta | None = None
    callback_url: str | None = None


@app.command()
@connected
def batch(
    client: Client,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSON Lines, or CSV with a header line (.csv); - for standard input.")
    ],
    type: Annotated[
        str | None,
        typer.Option(help="Job type; each line then has only the params.", autocompletion=complete_types),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Tag for each job. May be repeated.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Within a day, the same key and file create the jobs once.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch the jobs until all have ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit many jobs from a file, one per line.

    Prints their ids. Without --type, each line is a complete job:
    {"type": "count", "params": {"steps": 5}, "tags": ["nightly"]}.
    If a line can't be read, nothing is submitted; if the gateway refuses jobs, the others are submitted.
    The exit code is 2 if jobs were refused; with --watch, 1 if jobs failed and 3 if jobs were canceled.
    """
    rows = list(_read(file, type, tag or [], client))
    lines, submissions = [line for line, _ in rows], [submission for _, submission in rows]
    try:
        group = client.submit_many(submissions, idempotency_key=idempotency_key)
    except PartlySubmitted as error:
        _print(error.group, None, as_json=as_json)
        raise
    for refusal in group.refused:
        places = "; ".join(f"{_within(one.pointer)}: {one.detail}" for one in refusal.problem.errors)
        why = f"{refusal.problem.title}: {places or refusal.problem.detail}"
        sys.stderr.write(f"Line {lines[refusal.index]} was refused: {plain(why)}\n")
    _print_counts(group)
    if not as_json:
        _print(group, None, as_json=False)
    status = show_group_progress(group) if watch and group.batch_ids else None
    if as_json:
        _print(group, status, as_json=True)
    raise typer.Exit(_exit_code(group, status))


def _print(group: JobGroup, status: GroupStatus | None, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(_summary(group, status), indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{job_id}\n" for job_id in group.job_ids if job_id))
    sys.stdout.flush()


def _within(pointer: str) -> str:
    """Return a JSON pointer relative to its job, without the job's position in the request."""
    return re.sub("^/jobs/[0-9]+", "", pointer) or "/"


def _read(file: Path, type: str | None, tags: Sequence[str], client: Client) -> Iterator[tuple[int, Submission]]:
    is_csv = file.suffix.lower() == ".csv"
    if is_csv and type is None:
        raise typer.BadParameter("A CSV file has only params. Give the job type.", param_hint="--type")
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} can't be read: {getattr(error, 'strerror', None) or error}.") from error
    if is_csv:
        texts = text_fields(str(type), client)
        rows: Iterable[tuple[int, Any]] = _csv_rows(file, text, texts)
    else:
        rows = _json_rows(file, text)
    found = 0
    for number, value in rows:
        found += 1
        row = {"type": type, "params": value} if type is not None else value
        try:
            check_texts(value)
        except ValueError as error:
            raise typer.BadParameter(f"line {number} of {file}: {error}", param_hint="FILE") from error
        try:
            read = Row.model_validate(row)
        except ValidationError as error:
            where = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'the line'}: {one['msg']}" for one in error.errors())
            raise typer.BadParameter(f"line {number} of {file}: {where}", param_hint="FILE") from error
        yield number, Submission(**{**dict(read), "tags": [*read.tags, *tags]})
    if not found:
        raise typer.BadParameter(f"{file} has no jobs.", param_hint="FILE")


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):  # str.splitlines also splits at U+2028 and others
        if not line.strip():
            continue
        try:
            yield number, read_json(line)
        except ValueError as error:
            where = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise typer.BadParameter(f"line {number} of {file} is not JSON: {where}", param_hint="FILE") from error


def _csv_rows(file: Path, text: str, texts: set[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        names = reader.fieldnames or []
        if len(set(names)) < len(names):
            raise typer.BadParameter(f"The header of {file} names a param twice.", param_hint="FILE")
        for row in reader:
            if None in row or None in row.values():
                raise typer.BadParameter(
                    f"line {reader.line_num} of {file} has another number of fields than the header", param_hint="FILE"
                )
            # An empty field means that the param is absent: CSV has no other way to say so.
            given = {key: value for key, value in row.items() if value}
            yield reader.line_num, {key: v if key in texts else json_or_text(v) for key, v in given.items()}
    except csv.Error as error:
        raise typer.BadParameter(f"line {reader.line_num} of {file}: {error}", param_hint="FILE") from error


def _summary(group: JobGroup, status: GroupStatus | None) -> dict[str, Any]:
    return {
        "batch_ids": group.batch_ids,
        "job_ids": group.job_ids,
        "refused": [{"index": one.index, "problem": one.problem.model_dump(mode="json")} for one in group.refused],
        "counts": None if status is None else status.counts,
    }


def _print_counts(group: JobGroup) -> None:
    accepted = sum(job_id is not None for job_id in group.job_ids)
    refused = f", {len(group.refused)} refused" if group.refused else ""
    sys.stderr.write(f"{accepted} accepted{refused}\n")
    for batch_id in group.batch_ids:
        sys.stderr.write(f"List them: milepost list --batch {batch_id}\n")


def _exit_code(group: JobGroup, status: GroupStatus | None) -> int:
    if group.refused:
        return REFUSED
    if status is None:
        return 0
    if status.counts.get(Status.FAILED):
        return FAILED
    return CANCELED if status.counts.get(Status.CANCELED) else 0
