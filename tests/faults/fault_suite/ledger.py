"""The ledger: every submitted job, the gateway's answers, and what readers saw."""

import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from fault_suite.streams import Position

UNFINISHED = ("scheduled", "queued", "running", "retrying")
"""Statuses of a job that has not ended."""
ENDED = ("succeeded", "failed", "canceled")


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """One submitted job."""

    nonce: str
    behave: str
    #: None if no answer arrived.
    job_id: str | None = None
    accepted: bool = False
    #: Whether it has a callback URL.
    has_callback: bool = False


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
    """The records of one run; written by the load's threads."""

    file: Path
    #: Whether a job may be gone after its end: retention is that short.
    may_expire: bool = False
    submitted: dict[str, Submitted] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    #: When the cancel of a job was requested first, whatever the answer was, by id; Unix time.
    cancels: dict[str, float] = field(default_factory=dict)
    #: When a job was first answered 410, by id; Unix time.
    gone: dict[str, float] = field(default_factory=dict)
    #: The document with which each job was first seen to have ended, and when; Unix time.
    ends: dict[str, tuple[float, dict[str, object]]] = field(default_factory=dict)
    #: Answers that contradict earlier ones: one sentence each.
    contradictions: list[str] = field(default_factory=list)
    #: How many events were read from streams.
    streamed: int = 0
    #: The longest time between two jobs that were accepted, in seconds.
    longest_gap: float = 0.0
    _accepted_at: float | None = None
    _seen: dict[str, Seen] = field(default_factory=lambda: defaultdict(Seen))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def accepted(self) -> list[Submitted]:
        with self._lock:
            return [one for one in self.submitted.values() if one.accepted]

    def note(self, submitted: Submitted, answer: str) -> None:
        """Record a submission, and how it was answered."""
        with self._lock:
            self.submitted[submitted.nonce] = submitted
            if not submitted.accepted:
                self.refused[answer] += 1
                return
            at = time.monotonic()
            self.longest_gap = max(self.longest_gap, at - (self._accepted_at or at))
            self._accepted_at = at

    def note_cancel(self, job_id: str) -> None:
        """Record that a cancel is about to be requested."""
        with self._lock:
            self.cancels.setdefault(job_id, time.time())

    def seen(self, job_id: str) -> Seen:
        """Return what readers have seen of a job so far; a later read must not return less."""
        with self._lock:
            return self._seen[job_id]

    def read(self, job_id: str, code: int, document: dict[str, object], *, before: Seen) -> None:
        """Record a reader's answer; it must not contradict what any reader had seen before the request."""
        with self._lock:
            if code == 404 or (code == 410 and not self.may_expire):
                self.contradictions.append(f"{job_id}: {code} for a job that was accepted")
            elif code == 410:
                self.gone.setdefault(job_id, time.time())
            if code == 200:
                self._compare(job_id, document, before)

    def read_event(self, before: Position, event: dict[str, object]) -> Position:
        """Record an event of a stream; it must not contradict those that the stream had sent before it."""
        after, contradiction = before.after(event)
        with self._lock:
            self.streamed += 1
            if contradiction:
                self.contradictions.append(contradiction)
        return after

    def _compare(self, job_id: str, document: dict[str, object], seen: Seen) -> None:
        version, status = int(str(document["version"])), str(document["status"])
        run, attempt = int(str(document["run"])), int(str(document["attempt"]))
        progress = document["progress"]
        percent = float(progress["percent"] or 0) if isinstance(progress, dict) else 0.0
        change = f"{job_id}: {seen} and then {document['status']}, version {version}, attempt {attempt}, {percent} %"
        if version < seen.version:
            self.contradictions.append(f"the version went back: {change}")
        elif run == seen.run and attempt < seen.attempt:
            self.contradictions.append(f"the attempt went back: {change}")
        elif run == seen.run and seen.status and seen.status not in UNFINISHED and status in UNFINISHED:
            self.contradictions.append(f"the job had ended: {change}")
        elif document["started_at"] == seen.started_at and status == seen.status and percent < seen.percent:
            self.contradictions.append(f"the percent went back: {change}")
        elif version == seen.version and status != seen.status:
            self.contradictions.append(f"one version, two states: {change}")
        if status in ENDED:
            self.ends.setdefault(job_id, (time.time(), document))
        if version >= self._seen[job_id].version:
            self._seen[job_id] = Seen(version, run, attempt, status, percent, document["started_at"])
