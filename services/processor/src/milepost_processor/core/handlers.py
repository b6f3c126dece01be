"""Loads the handlers that this processor runs: by entry point, or from the modules that a setting names."""

import importlib
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points

from pydantic import ValidationError

from milepost import JobDefinition, definitions_in
from milepost.errors import InvalidDefinition
from milepost.job import describe_errors
from milepost.signature import line_of, reason_of
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages.worker_events import (
    Announcement,
    JobType,
    ProcessorAnnounced,
    decode_worker_event,
    encode_worker_event,
)
from milepost_processor.errors import HandlersUnusable

GROUP = "milepost.handlers"


@dataclass(frozen=True)
class Handlers:
    """The job types that this processor serves, by name."""

    definitions: dict[str, JobDefinition]

    @property
    def queues(self) -> tuple[str, ...]:
        return tuple(sorted({definition.queue for definition in self.definitions.values()}))


def load_handlers(modules: Iterable[str] = (), queues: Iterable[str] = ()) -> Handlers:
    """Import the handler modules and return what they define.

    Args:
        modules: Importable names; every package with an entry point in the group `milepost.handlers` if none is given.
        queues: Keep only the types of these queues; all of them if none is given.

    Raises:
        HandlersUnusable: One sentence names the module, type or queue, and the reason.
    """
    definitions: dict[str, JobDefinition] = {}
    for name in tuple(modules) or _installed():
        for definition in _definitions(name):
            known = definitions.setdefault(definition.type, definition)
            if known != definition:
                places = f"{line_of(known.handler)} and {line_of(definition.handler)}"
                raise HandlersUnusable(
                    f"the handlers at {places} have the same job type {definition.type!r}: rename one"
                )
    served = _of_queues(definitions, tuple(queues))
    _check_announcement(served)
    return Handlers(served)


def _installed() -> tuple[str, ...]:
    names = tuple(sorted({point.module for point in entry_points(group=GROUP)}))
    if not names:
        raise HandlersUnusable(
            f"there are no handlers: install a package with an entry point in {GROUP!r}, or set MILEPOST_HANDLERS"
        )
    return names


def _definitions(name: str) -> list[JobDefinition]:
    """Import a module and return what it defines."""
    try:
        found = definitions_in(importlib.import_module(name))
    except KeyboardInterrupt:
        raise
    except InvalidDefinition as error:
        raise HandlersUnusable(f"the handler module {name!r} can't be used: {error}{_where(error, name)}") from error
    except BaseException as error:  # a module may raise anything while it is imported, SystemExit too
        raise HandlersUnusable(
            f"the handler module {name!r} can't be imported: {type(error).__name__}: {error}{_where(error, name)}"
        ) from error
    if not found:
        raise HandlersUnusable(f"the handler module {name!r} defines no job: no function in it has @job")
    return found


def _where(error: BaseException, name: str) -> str:
    """Return the file and line at which the author's package raised the error, in brackets."""
    package = name.partition(".")[0]
    theirs = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package
    ]
    return " ({}:{})".format(*theirs[-1]) if theirs else ""


def _check_announcement(definitions: dict[str, JobDefinition]) -> None:
    """Check that every type can be announced, and all of them in one message."""
    types = []
    for name, definition in definitions.items():
        part = "params have"
        try:  # a model may generate its schema with code of its own, and raise anything
            definition.params_schema()
            part = "result has"
            definition.result.json_schema(mode="serialization")
            part = ""
            types.append(definition.announcement())
            _encode_and_decode(types[-1:])
        except Exception as error:
            why = f"its {part} no JSON Schema" if part else "the announcement is invalid"
            raise HandlersUnusable(
                f"the job type {name!r} can't be announced, because {why}: {_reason(error)} "
                f"({line_of(definition.handler)})"
            ) from error
    try:
        _encode_and_decode(types)
    except MalformedEvent as error:
        raise HandlersUnusable(
            f"the {len(types)} job types can't be announced together: {error}; "
            "serve fewer queues with MILEPOST_QUEUES, or simplify params and results"
        ) from error


def _encode_and_decode(types: list[JobType]) -> None:
    announcement = Announcement(instance="any", types=tuple(types))
    decode_worker_event(encode_worker_event(ProcessorAnnounced(announcement=announcement)))


def _reason(error: Exception) -> str:
    text = describe_errors(error) if isinstance(error, ValidationError) else reason_of(error)
    return text.partition("\n")[0] or type(error).__name__


def _of_queues(definitions: dict[str, JobDefinition], queues: tuple[str, ...]) -> dict[str, JobDefinition]:
    known = {definition.queue for definition in definitions.values()}
    for queue in queues:
        if queue not in known:
            raise HandlersUnusable(
                f"MILEPOST_QUEUES names {queue!r}, but the handlers use only {', '.join(sorted(known))}"
            )
    return {name: found for name, found in definitions.items() if not queues or found.queue in queues}
