"""Reads streams of events, and checks their order: within an attempt, the start, the progress, the end."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

_WAITING = ("submitted", "scheduled")
_ENDS = ("succeeded", "failed", "canceled")
_PHASES = {"started": 1, "progressed": 2}
"""Every other event is the end of an execution."""


@dataclass(frozen=True)
class Position:
    """How far a stream has told of one job."""

    run: int = 0
    attempt: int = 0
    execution: str = ""
    #: 0: not started; 1: started; 2: progressed; 3: ended.
    phase: int = 0
    event: str = ""
    #: The id of the last event, to resume after it.
    cursor: str = ""

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.event in _ENDS

    def after(self, event: dict[str, object]) -> tuple["Position", str]:
        """Return the position after an event, and a sentence if the event can't follow the earlier ones."""
        job, name = event["data"], str(event["type"]).split(".")[3]
        assert isinstance(job, dict)
        phase = 0 if name in _WAITING else _PHASES.get(name, 3)
        new = Position(job["run"], job["attempt"], job["execution"], phase, name, self.cursor)
        same_run = new.run == self.run
        same_execution = same_run and (new.attempt, new.execution) == (self.attempt, self.execution)
        if same_run and self.over and name not in _ENDS:
            problem = "the job had ended"
        elif same_run and new.attempt < self.attempt:
            problem = "the attempt went back"
        elif same_execution and new.phase < self.phase:
            problem = "the order within an execution is wrong"
        else:
            problem = ""
        return new, problem and f"a stream of {job['id']}: {problem}: {self} and then {new}"


@dataclass(frozen=True)
class ServerSentEvent:
    """One event of a stream, as SSE frames it."""

    cursor: str
    name: str
    data: dict[str, object]


def server_sent_events(response: httpx.Response) -> Iterator[ServerSentEvent]:
    """Parse a stream; comments and incomplete events are skipped."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if not line and "data" in fields:
            yield ServerSentEvent(fields.get("id", ""), fields.get("event", ""), json.loads(fields["data"]))
        if not line:
            fields = {}
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
