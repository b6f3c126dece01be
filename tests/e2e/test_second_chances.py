"""Retries, schedules, cancels, limits, interrupts and dead letters, from a client's side and with real parts."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex

import aio_pika
import pytest
from problem_answers import problem
from waiting import wait_until

from milepost_client import Refused
from milepost_contracts.messages.topology import Topology
from milepost_contracts.states import UNFINISHED
from milepost_stack import processes

CHAOS = Path(__file__).parent.parent / "faults"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    return tmp_path_factory.mktemp("chances") / "ledger.jsonl"


@pytest.fixture(scope="module")
def stack(start_stack, ledger):
    """A stack of this module's own, with handlers that misbehave."""
    settings = {
        "PYTHONPATH": str(CHAOS),
        "CHAOS_LEDGER": str(ledger),
        "MILEPOST_HANDLERS": "chaos_jobs",
        "MILEPOST_THREADS": "4",
        "MILEPOST_CANCEL_GRACE": "3",
        "MILEPOST_DRAIN_TIMEOUT": "1",
        "MILEPOST_DELIVERY_LIMIT": "1",
    }
    made = start_stack("chances", gateways=1, processors=1, trackers=1, settings=settings)
    yield made
    made.down()


@pytest.fixture
def submit_job(client):
    """Submit a job that behaves as requested."""

    def submit(behave="well", *, type="chaos", milliseconds=0, **more):
        nonce = token_hex(6)
        params = {"nonce": nonce, "milliseconds": milliseconds, "behave": behave}
        return client.submit(type, params, **more)

    return submit


@pytest.fixture
def starts(ledger):
    """Return a function that counts the starts of a job."""

    def count(handle):
        if not ledger.exists():
            return 0
        lines = [json.loads(line) for line in ledger.read_text().splitlines()]
        return sum(line["what"] == "start" and line["job_id"] == handle.id for line in lines)

    return count


def has_status(handle, *statuses):
    handle.refresh()
    return handle.document.status in statuses


def attempt_outcomes(document):
    return [(attempt.number, attempt.why) for attempt in document.attempts]


def depth(stack, queue):
    async def look():
        async with await aio_pika.connect(stack.state.rabbitmq_url) as connection:
            channel = await connection.channel()
            declared = await channel.declare_queue(queue.name, passive=True)
            return declared.declaration_result.message_count

    return asyncio.run(look())


def restart_dead_processor(stack):
    """Restart the processor if a job has killed it, as an orchestrator would."""
    state = stack.state
    process = state.process("processor-1")
    if processes.find(process) is None:
        processes.start(process)
        state.save(stack.folder)


@pytest.fixture(autouse=True)
def running_processor(stack):
    """Restart the processor before each test: one that failed may have left it dead."""
    restart_dead_processor(stack)


# Retries and schedules.


def test_an_attempt_that_raises_is_retried(submit_job, starts):
    """After a delay, with the first one's saved state. The document has the error until then, and both attempts."""
    handle = submit_job("raise-once", delay=timedelta(seconds=2))  # the stream is open before the job starts
    waiting = next(document for document in handle.watch() if document.status == "retrying")
    assert ("exception", "ValueError") == (waiting.error.kind, waiting.error.exception)
    assert waiting.run_at > waiting.updated_at
    document = handle.wait(timeout=20)
    assert ("succeeded", 2, None, 2) == (document.status, document.attempt, document.error, starts(handle))
    assert [(1, "ValueError: as requested, once"), (2, "succeeded")] == attempt_outcomes(document)


def test_a_job_whose_retries_are_used_up_fails(submit_job, starts):
    """With the last attempt's error."""
    handle = submit_job("raise-always")
    document = handle.wait(timeout=20)
    assert ("failed", 2, "exception", 2) == (document.status, document.attempt, document.error.kind, starts(handle))


def test_retry_later_does_not_use_up_a_retry_and_reject_fails_at_once(submit_job, starts):
    """Both are raised by the handler."""
    later, rejected = submit_job("later"), submit_job("reject")
    document = later.wait(timeout=20)
    assert ("succeeded", 2, 2) == (document.status, document.attempt, starts(later))
    document = rejected.wait(timeout=20)
    assert ("failed", "rejected", 1) == (document.status, document.error.kind, starts(rejected))


@pytest.mark.parametrize("seconds", [2, 3, 6.5])
def test_a_scheduled_job_starts_at_its_time(submit_job, seconds):
    """Not before, and at most 5 s later; it waits in the broker."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    handle = submit_job(run_at=at)
    assert "scheduled" == handle.document.status
    document = handle.wait(timeout=20)
    late = (document.started_at - at).total_seconds()
    assert "succeeded" == document.status
    assert 0 <= late <= 5, f"{late} s late"


def test_every_delay_level_takes_the_jobs_of_its_delay(stack, submit_job, client):
    """Up to ninety days: the test checks in which queue each job waits."""
    delay_queues = Topology().delay_queues
    handles = [submit_job(delay=timedelta(seconds=2**level)) for level in range(6, 23)]
    wait_until(
        lambda: all(depth(stack, queue) for queue in delay_queues[6:]), within=10, what="a job waits on each level"
    )
    assert "scheduled" == submit_job(delay=timedelta(days=90)).document.status
    for handle in handles:
        handle.cancel()
        assert "canceled" == handle.wait(timeout=10).status


def test_a_job_that_is_not_started_in_time_expires(stack, submit_job):
    """It ends `failed` and never runs."""
    process = processes.find(stack.state.process("processor-1"))
    process.suspend()
    try:
        handle = submit_job(expires_in=timedelta(seconds=1))
        wait_until(lambda: datetime.now(UTC) > handle.document.start_by, within=5, what="its time is over")
    finally:
        process.resume()
    document = handle.wait(timeout=20)
    assert ("failed", "expired", ()) == (document.status, document.error.kind, document.attempts)


# Cancel.


def test_a_queued_job_is_canceled_at_once_and_never_runs(stack, submit_job, starts):
    """It ends although no processor has received it."""
    process = processes.find(stack.state.process("processor-1"))
    process.suspend()
    try:
        handle = submit_job()
        wait_until(lambda: handle.refresh() or handle.document.version, within=10, what="a tracker has seen it")
        handle.cancel()
        document = handle.wait(timeout=5)
    finally:
        process.resume()
    assert ("canceled", "before-start") == (document.status, document.cancel_requested.how)
    assert document.cancel_requested.effective_at == document.finished_at
    after = submit_job()
    assert "succeeded" == after.wait(timeout=20).status
    assert 0 == starts(handle)


def test_a_running_job_is_canceled_at_its_next_progress_report(submit_job):
    """The request arrives over the control exchange, before the next claim renewal; the document has its effect."""
    took = []
    for _ in range(6):
        handle = submit_job(milliseconds=20_000)
        wait_until(lambda: has_status(handle, "running"), within=10, what="it runs")  # noqa: B023 - asked at once
        asked = handle.cancel()
        assert asked.cancel_requested is not None
        document = handle.wait(timeout=10)
        took.append((document.finished_at - document.cancel_requested.at).total_seconds())
        assert ("canceled", "cooperative") == (document.status, document.cancel_requested.how)
    shown = ", ".join(f"{seconds * 1000:.0f}" for seconds in took)
    print(f"cancel of a running job: effective after {shown} ms, of which up to 50 ms are its own")
    # Claims are checked once a second: without the control exchange, four of six could hardly be this fast.
    assert sorted(took)[3] < 0.25


@pytest.mark.parametrize("type", ["stubborn", "stubborn-async"])
def test_a_handler_that_ignores_a_cancel_is_stopped_by_force(submit_job, type):
    """After `cancel_grace`, sync and async alike; the document has `forced`."""
    handle = submit_job(type=type, milliseconds=20_000)
    wait_until(lambda: has_status(handle, "running"), within=10, what="it runs")
    handle.cancel()
    document = handle.wait(timeout=10)
    assert ("canceled", "forced") == (document.status, document.cancel_requested.how)


def test_a_cancel_that_has_no_effect_ends_as_too_late(client, submit_job, http):
    """A repeated request returns the first one; after the job's end, a cancel is answered 409."""
    handle = submit_job(type="stubborn", milliseconds=2_000)
    wait_until(lambda: has_status(handle, "running"), within=10, what="it runs")
    first, again = handle.cancel(), handle.cancel()
    assert first.cancel_requested.at == again.cancel_requested.at
    document = handle.wait(timeout=10)
    assert ("succeeded", "too-late") == (document.status, document.cancel_requested.how)
    with pytest.raises(Refused, match="has ended already"):
        handle.cancel()
    problem(http.post(f"/v1/jobs/{handle.id}/cancel"), 409, "job-already-finished")
    problem(http.post("/v1/jobs/unknown/cancel"), 404, "unknown-job")


def test_a_race_between_cancel_and_success_has_one_outcome(submit_job, starts, ledger):
    """Forty races: each job is canceled or has succeeded, and never both."""
    handles = []
    for number in range(40):
        handle = submit_job(milliseconds=number * 5)
        handles.append(handle)
        wait_until(lambda handle=handle: handle.refresh() or handle.document.version, within=10, what="it is seen")
        try:
            handle.cancel()
        except Refused:
            assert has_status(handle, "succeeded")
    ended = [handle.wait(timeout=20) for handle in handles]
    finished = {json.loads(line)["job_id"] for line in ledger.read_text().splitlines() if '"finish"' in line}
    for document in ended:
        if document.status == "succeeded":
            assert document.id in finished
            assert document.cancel_requested is None or document.cancel_requested.how == "too-late"
        else:
            assert "canceled" == document.status
            assert document.result is None


# Limits.


@pytest.mark.parametrize("type", ["stubborn", "stubborn-async"])
def test_an_attempt_is_stopped_after_its_max_runtime(submit_job, type):
    """By force if the handler does not stop."""
    document = submit_job(type=type, milliseconds=20_000).wait(timeout=15)
    assert ("failed", "timeout") == (document.status, document.error.kind)
    assert 3 <= (document.finished_at - document.started_at).total_seconds() < 9


def test_a_handler_that_holds_the_gil_keeps_its_job(submit_job, starts):
    """No heartbeat is sent meanwhile; the broker's heartbeat time-out is longer."""
    handle = submit_job("hold-interpreter", milliseconds=21_000)
    document = handle.wait(timeout=60)
    assert ("succeeded", 1, 1) == (document.status, document.attempt, starts(handle))


# Interrupts.


def test_an_interrupted_job_continues_from_its_saved_state(stack, submit_job, starts):
    """SIGTERM: it is requeued at once, and the next attempt has the next number and the saved state."""
    handle = submit_job(type="patient", milliseconds=6_000)
    wait_until(lambda: has_status(handle, "running") and handle.document.progress, within=10, what="it runs")
    stack.restart("processor-1")
    document = handle.wait(timeout=30)
    begun_at, steps = document.result
    assert ("succeeded", 2, 600) == (document.status, document.attempt, steps)
    assert 0 < begun_at < 600
    assert [(1, "interrupted"), (2, "succeeded")] == attempt_outcomes(document)
    assert 2 == starts(handle)


def test_a_job_whose_processor_is_killed_continues_from_its_saved_state(stack, submit_job):
    """Kill -9: at most about a second of what the handler saved is lost."""
    handle = submit_job(type="patient", milliseconds=6_000)

    def has_come_far():
        return has_status(handle, "running") and handle.document.progress and handle.document.progress.done >= 300

    wait_until(has_come_far, within=30, what="half of it is done")
    processes.find(stack.state.process("processor-1")).kill()
    wait_until(lambda: processes.find(stack.state.process("processor-1")) is None, within=10, what="it is gone")
    restart_dead_processor(stack)
    document = handle.wait(timeout=60)
    begun_at, steps = document.result
    assert ("succeeded", 2, 600) == (document.status, document.attempt, steps)
    assert 100 <= begun_at < 600


# Dead letters.


def test_a_job_that_kills_its_workers_is_dead_lettered_and_can_be_redriven(stack, client, submit_job, starts, ledger):
    """A job beside it succeeds. A redrive, once the cause is fixed, is a new run of the same job."""
    killer, harmless = submit_job("kill-until-fixed"), submit_job(milliseconds=500)

    def ended(handle):
        restart_dead_processor(stack)
        return not has_status(handle, *UNFINISHED)

    wait_until(lambda: ended(killer) and ended(harmless), within=110, what="both have ended")
    restart_dead_processor(stack)
    assert ("failed", "dead_lettered") == (killer.document.status, killer.document.error.kind)
    assert "succeeded" == harmless.document.status
    assert 4 == starts(killer), "two deliveries, and two in quarantine"
    assert [killer.id] == [one.job_id for one in client.dead_letters(type="chaos").items if one.job_id == killer.id]
    assert () == client.dead_letters(type="stubborn").items

    assert killer.id in client.redrive_many(type="chaos", dry_run=True)
    assert "failed" == client.job(killer.id).document.status, "a dry run does nothing"
    Path(f"{ledger}.fixed").touch()
    again = client.redrive(killer.id)
    assert 2 == again.document.run
    assert again.document.status in ("queued", "running", "succeeded"), "not the status of the last run"
    with pytest.raises(Refused, match="is not a dead letter"):
        client.redrive(harmless.id)
    assert (2, "succeeded", 5) == (again.wait(timeout=30).run, again.document.status, starts(killer))


def test_jobs_of_a_purged_queue_end_as_expired(stack, submit_job, client):
    """Exactly those jobs, once their `start_by` is over; none stays open."""
    restart_dead_processor(stack)
    process = processes.find(stack.state.process("processor-1"))
    process.suspend()
    try:
        handles = [submit_job(expires_in=timedelta(seconds=1)) for _ in range(5)]
        work = Topology().work("default")
        wait_until(lambda: depth(stack, work) + 4 >= 5, within=10, what="they wait")

        async def purge():
            async with await aio_pika.connect(stack.state.rabbitmq_url) as connection:
                queue = await (await connection.channel()).get_queue(work.name, ensure=False)
                return (await queue.purge()).message_count

        purged = asyncio.run(purge())
        # What the processor has prefetched is too late when it resumes.
        last = handles[-1].document.start_by
        wait_until(lambda: datetime.now(UTC) > last, within=5, what="their time is over")
    finally:
        process.resume()
    kinds = [handle.wait(timeout=60).error.kind for handle in handles]
    assert purged >= 1
    assert ["expired"] * 5 == kinds, "those that were purged, and those that the processor started too late"


def test_no_job_of_this_module_stays_open(client, submit_job):
    """Every job has ended after all tests of the module."""
    begun = time.monotonic()
    wait_until(
        lambda: not [one for one in client.jobs(limit=500) if one.status in ("queued", "running", "retrying")],
        within=90,
        what="no job is open",
    )
    print(f"all quiet after {time.monotonic() - begun:.1f} s")
