"""Fakes of the processor's ports."""

import asyncio

import pytest

from milepost_processor.errors import GateUnavailable
from milepost_processor.ports import Verdict


class FakeGate:
    """A gate in memory; passes the suite that the Lua script passes."""

    def __init__(self):
        self.claims = {}
        self.away_for = 0

    def _answer(self):
        if self.away_for > 0:
            self.away_for -= 1
            raise GateUnavailable("away")

    def claim(self, *, job_id, run, attempt, execution, worker):
        self._answer()
        old = self.claims.get(job_id)
        if old is not None:
            old_run, old_attempt, old_execution, ended = old
            if run < old_run:
                return Verdict.STALE
            if run == old_run:
                if ended:
                    return Verdict.FINISHED
                if attempt < old_attempt:
                    return Verdict.STALE
                if attempt == old_attempt and execution != old_execution:
                    return Verdict.TAKEN
        self.claims[job_id] = (run, attempt, execution, False)
        return Verdict.RUN

    def finish(self, *, job_id, run, attempt, absorbing):
        self._answer()
        old_run, old_attempt, execution, _ = self.claims.get(job_id, (run, 0, "", False))
        stale = old_run == run and old_attempt > attempt and not absorbing
        if old_run <= run and not stale:
            self.claims[job_id] = (run, attempt, execution, True)


class FakeOutbox:
    """Keeps what was said, in order."""

    def __init__(self):
        self.events = []
        self.followed = []

    def post(self, event):
        self.events.append(event)

    def deliver(self, event):
        self.events.append(event)

    def follow(self, run, progressed):
        self.followed.append((run, progressed))

    def unfollow(self, run):
        self.followed = [(one, progressed) for one, progressed in self.followed if one is not run]


class FakeFiles:
    def open(self, ref):
        return ref


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
    return asyncio.run
