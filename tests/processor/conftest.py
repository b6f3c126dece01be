"""Fakes of the processor's ports, and an executor among them."""

import asyncio
import threading
from dataclasses import dataclass
from datetime import timedelta

import pytest
from fake_files import FakeFiles
from odd_handlers import REGISTRY

from milepost_contracts.envelope import now
from milepost_contracts.values import Attempt
from milepost_processor.errors import GateUnavailable
from milepost_processor.executor import Executor
from milepost_processor.ports import Claim, Verdict
from milepost_processor.waits import Waits


class FakeGate:
    """A gate in memory; passes the suite that the Lua script passes."""

    def __init__(self):
        self.claims = {}
        self.canceled = set()
        #: Ids of jobs whose holders live.
        self.alive = set()
        self.away_for = 0

    def _answer(self):
        if self.away_for > 0:
            self.away_for -= 1
            raise GateUnavailable("away")

    def claim(self, job, *, turn, execution, worker):
        self._answer()
        old, at = self.claims.get(job.id), now()
        attempt, earlier, crashed = job.attempt + 1, job.attempts, False
        if old is not None and old.run == job.run and old.turn < turn and old.execution != job.execution:
            attempt, earlier, crashed = old.attempt + 1, old.attempts, True
        verdict = self._verdict(old, job, turn, execution)
        if verdict is Verdict.RUN and crashed and job.id in self.alive:
            verdict = Verdict.ALIVE
        if verdict is Verdict.RUN:
            this = Attempt(number=attempt, worker=worker, started_at=at)
            self.claims[job.id] = Held(job.run, turn, execution, attempt, (*earlier, this))
        return Claim(verdict=verdict, attempt=attempt, at=at, earlier=earlier, crashed=crashed)

    def _verdict(self, old, job, turn, execution):
        if old is not None and old.run > job.run:
            return Verdict.STALE
        if old is not None and old.run == job.run:
            if old.ended:
                return Verdict.FINISHED
            if old.turn > turn:
                return Verdict.STALE
            if old.turn == turn and old.execution != execution:
                return Verdict.TAKEN
        return Verdict.CANCELED if (job.id, job.run) in self.canceled else Verdict.RUN

    def finish(self, job, *, absorbing):
        self._answer()
        old = self.claims.get(job.id) or Held(job.run, 0, "", 0, ())
        stale = old.run == job.run and old.turn > job.turn and not absorbing
        if old.run <= job.run and not stale:
            self.claims[job.id] = Held(job.run, job.turn, old.execution, old.attempt, old.attempts, ended=True)

    def verdicts(self, jobs):
        self._answer()
        return [self._standing(job) for job in jobs]

    def _standing(self, job):
        old = self.claims.get(job.id)
        if old is not None and (old.run, old.turn, old.execution) != (job.run, job.turn, job.execution):
            return Verdict.STALE
        return Verdict.CANCELED if (job.id, job.run) in self.canceled else Verdict.RUN


@dataclass(frozen=True)
class Held:
    run: int
    turn: int
    execution: str
    attempt: int
    attempts: tuple
    ended: bool = False


class FakeOutbox:
    """Keeps what was said, in order."""

    def __init__(self):
        self.events = []
        self.followed = []

    def deliver(self, event):
        self.events.append(event)

    def follow(self, run, *, started, progressed):
        self.events.append(started())  # as if each run lasted
        self.followed.append((run, progressed))

    def unfollow(self, run):
        self.followed = [(one, progressed) for one, progressed in self.followed if one is not run]


@pytest.fixture
def gate():
    return FakeGate()


@pytest.fixture
def outbox():
    return FakeOutbox()


@pytest.fixture
def files():
    return FakeFiles()


@pytest.fixture
def run_async():
    """An event loop on a thread of its own, as Dramatiq's is."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def waits():
    return Waits()


@pytest.fixture
def executor(gate, outbox, files, run_async, waits, monkeypatch):
    monkeypatch.setattr("milepost_processor.executor.GATE_BACK_OFF", (0.0, 0.0))
    return Executor(
        REGISTRY,
        gate=gate,
        outbox=outbox,
        files=files,
        run_async=run_async,
        instance="here",
        gate_patience=timedelta(seconds=5),
        delivery_limit=3,
        waits=waits,
    )
