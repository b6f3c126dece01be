"""What handlers recorded of themselves: the starts and finishes of each job."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Executions:
    """The records of all handlers since the run began, by nonce."""

    starts: Counter[str] = field(default_factory=Counter)
    finishes: Counter[str] = field(default_factory=Counter)
    #: The starts of each behaviour.
    behaviours: Counter[str] = field(default_factory=Counter)
    #: Those that continued where an interrupted attempt had stopped.
    resumed: set[str] = field(default_factory=set)
    #: When each start was, as Unix time by the handler's clock.
    started_at: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    #: When the last record was.
    last_at: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path, begun_at: int = 0) -> "Executions":
        """Read what was appended after the first `begun_at` bytes."""
        made = cls()
        if file.exists():
            for line in file.read_bytes()[begun_at:].splitlines():
                made._add(json.loads(line))
        return made

    def _add(self, entry: dict[str, object]) -> None:
        nonce, at = str(entry["nonce"]), float(str(entry["at"]))
        self.last_at[nonce] = at
        if entry["what"] == "start":
            self.starts[nonce] += 1
            self.behaviours[str(entry["behave"])] += 1
            self.started_at[nonce].append(at)
        elif entry["what"] == "finish":
            self.finishes[nonce] += 1
        elif entry["what"] == "resume":
            self.resumed.add(nonce)
