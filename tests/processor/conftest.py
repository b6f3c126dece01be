"""Fakes of the processor's ports, and a runner that uses them."""

import asyncio
import threading
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from fake_files import FakeFiles
from odd_handlers import REGISTRY

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import JobEvent
from milepost_contracts.status.deadlines import start_by
from milepost_contracts.values import Attempt
from milepost_processor.core.queue_wait import QueueWait
from milepost_processor.core.runner import Runner
from milepost_processor.core.secret_params import ParamsOpener
from milepost_processor.errors import ClaimsUnavailable
from milepost_processor.ports.claims import Claim, ResumePoint, Verdict
from milepost_service.sealing import Sealer


class FakeClaims:
    """Claims in memory; they pass the same suite as the Lua scripts, which know the view too."""

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

    def claim(self, job, *, delivery, execution, worker, may_run=True):
        self._fail_if_unavailable()
        at, last = now(), self.claims.get(job.id)
        attempt, earlier, point = job.attempt + 1, job.attempts, None
        if last is not None and last.run != job.run:
            if last.run > job.run:
                return Claim(verdict=Verdict.STALE, attempt=attempt)
            last = None
        if last is not None:
            verdict = _verdict(last, job, delivery, execution)
            if verdict is not None:
                outcome = last.outcome if verdict is Verdict.UNCONFIRMED else None
                return Claim(verdict=verdict, attempt=attempt, outcome=outcome)
            if (last.delivery, last.execution) == (delivery, execution):
                attempt, earlier, point = last.attempt, last.attempts[:-1], last.resume_point
            elif not _follows(job, last):
                if last.state == "running" and job.id in self.alive:
                    return Claim(verdict=Verdict.ALIVE, attempt=attempt)
                attempt, earlier, point = last.attempt + 1, last.attempts, last.resume_point
        if (job.id, job.run) in self.canceled:
            return Claim(verdict=Verdict.CANCELED, attempt=attempt, earlier=earlier, cancel_requested_at=at)
        if attempt == 1 and at > start_by(job):
            return Claim(verdict=Verdict.EXPIRED, attempt=attempt)
        if may_run:
            attempts = (*earlier, Attempt(number=attempt, worker=worker, started_at=at))
            self.claims[job.id] = HeldClaim(
                job.run, delivery, execution, attempt, attempts, since=job.attempt, resume_point=point
            )
        return Claim(verdict=Verdict.RUN, attempt=attempt, at=at, earlier=earlier, resume_point=point)

    def end(self, job, outcome):
        self._fail_if_unavailable()
        kind = "absorbing" if outcome.status.absorbing else "final" if outcome.status.terminal else "put-back"
        last = self.claims.get(job.id)
        if last is not None and last.run > job.run:
            return None
        is_own = last is not None and (last.delivery, last.execution) == (job.delivery, job.execution)
        if last is not None and last.run == job.run and not is_own:
            stands = last.end == "absorbing" or (kind != "absorbing" and last.delivery >= job.delivery)
            if stands:
                return last.outcome
        self.claims[job.id] = HeldClaim(
            job.run, job.delivery, job.execution, job.attempt, job.attempts, state="ending", end=kind, outcome=outcome
        )
        return outcome

    def confirm(self, outcomes):
        self._fail_if_unavailable()
        for outcome in outcomes:
            last = self.claims[outcome.job.id]
            if last.outcome is not None and last.outcome.event_id == outcome.event_id:
                state = "put-back" if last.end == "put-back" else "ended"
                self.claims[outcome.job.id] = replace(last, state=state, outcome=None)

    def keep(self, job, point):
        self._fail_if_unavailable()
        old = self.claims.get(job.id)
        own = (job.run, job.delivery, job.execution, "running")
        if old is None or (old.run, old.delivery, old.execution, old.state) != own:
            return False
        self.claims[job.id] = replace(old, resume_point=point)
        return True

    def renew(self, jobs):
        self._fail_if_unavailable()
        return [self._verdict_on_renewal(job) for job in jobs]

    def _verdict_on_renewal(self, job):
        last = self.claims.get(job.id)
        if last is None or (last.run, last.delivery) < (job.run, job.delivery):
            self.claims[job.id] = HeldClaim(job.run, job.delivery, job.execution, job.attempt, job.attempts)
            self.alive.add(job.id)
        elif (last.run, last.delivery, last.execution) != (job.run, job.delivery, job.execution):
            return Verdict.STALE
        return Verdict.CANCELED if (job.id, job.run) in self.canceled else Verdict.RUN


def _follows(job, last):
    return job.attempt > last.attempt or job.execution == last.execution


def _verdict(last, job, delivery, execution):
    """Return the verdict if the job is not to be run now."""
    if last.end != "absorbing" and (_follows(job, last) or job.quarantined >= last.delivery):
        return None
    if last.end != "absorbing" and job.attempt < last.since:
        return Verdict.STALE
    if last.state == "ending":
        return Verdict.UNCONFIRMED
    if last.state == "ended":
        return Verdict.FINISHED
    if last.state == "put-back" or delivery < last.delivery:
        return Verdict.STALE
    return Verdict.TAKEN if delivery == last.delivery and execution != last.execution else None


@dataclass(frozen=True)
class HeldClaim:
    run: int
    delivery: int
    execution: str
    attempt: int
    attempts: tuple
    state: str = "running"
    end: str = ""
    outcome: JobEvent | None = None
    since: int = 0
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
        opener=ParamsOpener(REGISTRY, Sealer()),
        claims=claims,
        publisher=publisher,
        files=files,
        run_async=run_async,
        instance="here",
        claim_patience=timedelta(seconds=5),
        delivery_limit=3,
        queue_wait=queue_wait,
    )
