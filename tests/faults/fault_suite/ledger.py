"""The ledger: every job that was handed over, what the gateway said of it, what readers saw, and what handlers did."""

import json
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

ORDER = ("scheduled", "queued", "running", "retrying")
"""States of a job that has not ended."""
ENDED = ("succeeded", "failed", "canceled")


@dataclass(frozen=True, kw_only=True)
class Handed:
    """One job that was handed over."""

    nonce: str
    behave: str
    #: Nothing where no answer came.
    job_id: str | None = None
    accepted: bool = False
    #: Whether its end is to be told to the receiver.
    calls_back: bool = False


@dataclass(frozen=True)
class Seen:
    """What readers last saw of one job."""

    version: int = -1
    run: int = 0
    attempt: int = 0
    status: str = ""
    percent: float = 0.0
    #: When the present execution began; an interrupted attempt begins again with the same number.
    started_at: object = None


@dataclass
class Ledger:
    """Written by the load's threads."""

    file: Path
    handed: dict[str, Handed] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    #: What a reader saw that can't be: one sentence each.
    lies: list[str] = field(default_factory=list)
    #: The longest time between two jobs that were accepted, in seconds.
    longest_gap: float = 0.0
    _accepted_at: float | None = None
    _seen: dict[str, Seen] = field(default_factory=lambda: defaultdict(Seen))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def accepted(self) -> list[Handed]:
        with self._lock:
            return [one for one in self.handed.values() if one.accepted]

    def note(self, handed: Handed, answer: str) -> None:
        """Note that a job was handed over, and how that was answered."""
        with self._lock:
            self.handed[handed.nonce] = handed
            if not handed.accepted:
                self.refused[answer] += 1
                return
            at = time.monotonic()
            self.longest_gap = max(self.longest_gap, at - (self._accepted_at or at))
            self._accepted_at = at

    def seen(self, job_id: str) -> Seen:
        """Return what any reader was told of a job up to now: whoever asks after this must not be told less."""
        with self._lock:
            return self._seen[job_id]

    def read(self, job_id: str, code: int, document: dict[str, object], *, before: Seen) -> None:
        """Note what a reader was told; it must not contradict what any reader was told before this one asked."""
        with self._lock:
            if code in (404, 410):
                self.lies.append(f"{job_id}: {code} for a job that was accepted")
            if code == 200:
                self._compare(job_id, document, before)

    def _compare(self, job_id: str, document: dict[str, object], seen: Seen) -> None:
        version, status = int(str(document["version"])), str(document["status"])
        run, attempt = int(str(document["run"])), int(str(document["attempt"]))
        progress = document["progress"]
        percent = float(progress["percent"] or 0) if isinstance(progress, dict) else 0.0
        told = f"{job_id}: {seen} and then {document['status']}, version {version}, attempt {attempt}, {percent} %"
        if version < seen.version:
            self.lies.append(f"the version went back: {told}")
        elif run == seen.run and seen.status and seen.status not in ORDER and status in ORDER:
            self.lies.append(f"it had ended: {told}")
        elif document["started_at"] == seen.started_at and status == seen.status and percent < seen.percent:
            self.lies.append(f"the percent went back: {told}")
        elif version == seen.version and status != seen.status:
            self.lies.append(f"one version, two states: {told}")
        if version >= self._seen[job_id].version:
            self._seen[job_id] = Seen(version, run, attempt, status, percent, document["started_at"])


@dataclass
class Executions:
    """What handlers wrote down: how often each job was started and finished, by nonce."""

    starts: Counter[str] = field(default_factory=Counter)
    finishes: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, file: Path, begun_at: int = 0) -> "Executions":
        """Read what was appended since the file had so many bytes."""
        made = cls()
        if file.exists():
            for line in file.read_bytes()[begun_at:].splitlines():
                entry = json.loads(line)
                (made.starts if entry["what"] == "start" else made.finishes)[entry["nonce"]] += 1
        return made
