"""Fakes of the processor's ports, and a runner that uses them."""

import asyncio
import threading
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from fake_files import FakeFiles
from odd_handlers import REGISTRY

from milepost_contracts.clock import now
from milepost_contracts.values import Attempt
from milepost_processor.core.queue_wait import QueueWait
from milepost_processor.core.runner import Runner
from milepost_processor.errors import ClaimsUnavailable
from milepost_processor.ports.claims import Claim, ResumePoint, Verdict


class FakeClaims:
    """Claims in memory; they pass the same suite as the Lua script."""

    def __init__(self):
        self.claims = {}
        self.canceled = set()
        #: Ids of jobs whose processor is alive.
        self.alive = set()
        #: How many of the next calls fail.
        self.failing_calls = 0

    def _fail_if_unavailable(self):
        if self.failing_calls > 0:
            self.failing_calls -= 1
            raise ClaimsUnavailable("Redis is not available")

    def claim(self, job, *, delivery, execution, worker):
        self._fail_if_unavailable()
        old, at = self.claims.get(job.id), now()
        attempt, earlier, crashed, point = job.attempt + 1, job.attempts, False, None
        if old is not None and old.run == job.run and old.delivery < delivery and old.execution != job.execution:
            attempt, earlier, crashed, point = old.attempt + 1, old.attempts, True, old.resume_point
        verdict = self._verdict(old, job, delivery, execution)
        if verdict is Verdict.RUN and crashed and job.id in self.alive:
            verdict = Verdict.ALIVE
        if verdict is Verdict.RUN:
            this = Attempt(number=attempt, worker=worker, started_at=at)
            self.claims[job.id] = HeldClaim(job.run, delivery, execution, attempt, (*earlier, this), resume_point=point)
        return Claim(verdict=verdict, attempt=attempt, at=at, earlier=earlier, crashed=crashed, resume_point=point)

    def _verdict(self, old, job, delivery, execution):
        if old is not None and old.run > job.run:
            return Verdict.STALE
        if old is not None and old.run == job.run:
            if old.ended:
                return Verdict.FINISHED
            if old.delivery > delivery:
                return Verdict.STALE
            if old.delivery == delivery and old.execution != execution:
                return Verdict.TAKEN
        return Verdict.CANCELED if (job.id, job.run) in self.canceled else Verdict.RUN

    def finish(self, job, *, absorbing):
        self._fail_if_unavailable()
        old = self.claims.get(job.id) or HeldClaim(job.run, 0, "", 0, ())
        stale = old.run == job.run and old.delivery > job.delivery and not absorbing
        if old.run <= job.run and not stale:
            self.claims[job.id] = HeldClaim(job.run, job.delivery, old.execution, old.attempt, old.attempts, ended=True)

    def keep(self, job, point):
        self._fail_if_unavailable()
        old = self.claims.get(job.id)
        if old is None or old.ended or (old.run, old.delivery, old.execution) != (job.run, job.delivery, job.execution):
            return False
        self.claims[job.id] = replace(old, resume_point=point)
        return True

    def renew(self, jobs):
        self._fail_if_unavailable()
        return [self._verdict_on_renewal(job) for job in jobs]

    def _verdict_on_renewal(self, job):
        old = self.claims.get(job.id)
        if old is not None and (old.run, old.delivery, old.execution) != (job.run, job.delivery, job.execution):
            return Verdict.STALE
        return Verdict.CANCELED if (job.id, job.run) in self.canceled else Verdict.RUN


@dataclass(frozen=True)
class HeldClaim:
    run: int
    delivery: int
    execution: str
    attempt: int
    attempts: tuple
    ended: bool = False
    resume_point: ResumePoint | None = None


class FakeEventPublisher:
    """Records the published events, in order."""

    def __init__(self):
        self.events = []
        self.reported_runs = []

    def publish(self, event):
        self.events.append(event)

    def report(self, run, *, started, progressed):
        self.events.append(started())  # as if each run lasted long enough to be reported
        self.reported_runs.append((run, progressed))

    def stop_reporting(self, run):
        self.reported_runs = [(one, progressed) for one, progressed in self.reported_runs if one is not run]


@pytest.fixture
def claims():
    return FakeClaims()


@pytest.fixture
def publisher():
    return FakeEventPublisher()


@pytest.fixture
def files():
    return FakeFiles()


@pytest.fixture
def run_async():
    """An event loop on a thread of its own, as the processor's is."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def queue_wait():
    return QueueWait()


@pytest.fixture
def runner(claims, publisher, files, run_async, queue_wait, monkeypatch):
    monkeypatch.setattr("milepost_processor.core.runner.MAX_CLAIM_PAUSE", 0.01)
    return Runner(
        REGISTRY,
        claims=claims,
        publisher=publisher,
        files=files,
        run_async=run_async,
        instance="here",
        claim_patience=timedelta(seconds=5),
        delivery_limit=3,
        queue_wait=queue_wait,
    )
