"""Retries, schedules, cancels, limits, interrupts and dead letters, from a client's side and with real parts."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex

import aio_pika
import httpx
import pytest
from problem_answers import problem
from waiting import wait_until

from milepost_client import Client, Refused
from milepost_contracts.topology import Topology
from milepost_stack import processes

CHAOS = Path(__file__).parent.parent / "faults"
OPEN = ("scheduled", "queued", "running", "retrying")


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
        "MILEPOST_DELIVERY_LIMIT": "2",
    }
    made = start_stack("chances", gateways=1, processors=1, trackers=1, settings=settings)
    yield made
    made.down()


@pytest.fixture
def client(stack):
    with Client(stack.state.url) as made:
        yield made


@pytest.fixture
def http(stack):
    with httpx.Client(base_url=stack.state.url, timeout=10) as made:
        yield made


@pytest.fixture
def hand_over(client):
    """Hand over a job that behaves in some way."""

    def submit(behave="well", *, type="chaos", milliseconds=0, **more):
        nonce = token_hex(6)
        params = {"nonce": nonce, "milliseconds": milliseconds, "behave": behave}
        return client.submit(type, params, **more)

    return submit


@pytest.fixture
def starts(ledger):
    """How often a job was started."""

    def count(handle):
        if not ledger.exists():
            return 0
        lines = [json.loads(line) for line in ledger.read_text().splitlines()]
        return sum(line["what"] == "start" and line["job_id"] == handle.id for line in lines)

    return count


def now_is(handle, *statuses):
    handle.refresh()
    return handle.document.status in statuses


def whys(document):
    return [(attempt.number, attempt.why) for attempt in document.attempts]


def depth(stack, queue):
    async def look():
        async with await aio_pika.connect(stack.state.rabbitmq_url) as connection:
            channel = await connection.channel()
            declared = await channel.declare_queue(queue.name, passive=True)
            return declared.declaration_result.message_count

    return asyncio.run(look())


def revived(stack):
    """Start the processor again if a job has killed it, as an orchestrator would."""
    state = stack.state
    process = state.process("processor-1")
    if processes.find(process) is None:
        processes.start(process)
        state.save(stack.folder)


@pytest.fixture(autouse=True)
def somebody_works(stack):
    """A test that failed may have left nobody to run the jobs of the next one."""
    revived(stack)


# Retries and schedules.


def test_an_attempt_that_raises_is_followed_by_another(hand_over, starts):
    """After a pause, with what the first one saved; the document lists both, and says what went wrong meanwhile."""
    handle = hand_over("raise-once", delay=timedelta(seconds=2))  # the stream is there before it starts
    waiting = next(document for document in handle.watch() if document.status == "retrying")
    assert ("exception", "ValueError") == (waiting.error.kind, waiting.error.exception)
    assert waiting.run_at > waiting.updated_at
    document = handle.wait(timeout=20)
    assert ("succeeded", 2, None, 2) == (document.status, document.attempt, document.error, starts(handle))
    assert [(1, "ValueError: as it was told, once"), (2, "succeeded")] == whys(document)


def test_a_job_whose_retries_are_used_up_fails(hand_over, starts):
    """With the last error."""
    handle = hand_over("raise-always")
    document = handle.wait(timeout=20)
    assert ("failed", 2, "exception", 2) == (document.status, document.attempt, document.error.kind, starts(handle))


def test_a_handler_can_ask_to_be_called_again(hand_over, starts):
    """RetryLater, without using up a retry; and Reject fails at once."""
    later, rejected = hand_over("later"), hand_over("reject")
    document = later.wait(timeout=20)
    assert ("succeeded", 2, 2) == (document.status, document.attempt, starts(later))
    document = rejected.wait(timeout=20)
    assert ("failed", "rejected", 1) == (document.status, document.error.kind, starts(rejected))


@pytest.mark.parametrize("seconds", [2, 3, 6.5])
def test_a_scheduled_job_starts_in_its_time(hand_over, seconds):
    """Not before, and soon after; it waits in the broker."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    handle = hand_over(run_at=at)
    assert "scheduled" == handle.document.status
    document = handle.wait(timeout=20)
    late = (document.started_at - at).total_seconds()
    assert "succeeded" == document.status
    assert 0 <= late <= 5, f"{late} s late"


def test_every_level_of_the_ladder_takes_what_is_due_then(stack, hand_over, client):
    """Up to ninety days: looked for where it waits, for nobody has the time."""
    ladder = Topology().ladder
    handles = [hand_over(delay=timedelta(seconds=2**level)) for level in range(6, 23)]
    wait_until(lambda: all(depth(stack, queue) for queue in ladder[6:]), within=10, what="one waits on each level")
    assert "scheduled" == hand_over(delay=timedelta(days=90)).document.status
    for handle in handles:
        handle.cancel()
        assert "canceled" == handle.wait(timeout=10).status


def test_a_job_that_nobody_starts_in_time_expires(stack, hand_over):
    """It ends `failed`, and is never run."""
    process = processes.find(stack.state.process("processor-1"))
    process.suspend()
    try:
        handle = hand_over(expires_in=timedelta(seconds=1))
        wait_until(lambda: datetime.now(UTC) > handle.document.start_by, within=5, what="its time is over")
    finally:
        process.resume()
    document = handle.wait(timeout=20)
    assert ("failed", "expired", ()) == (document.status, document.error.kind, document.attempts)


# Cancel.


def test_a_queued_job_ends_canceled_at_once_and_is_never_run(stack, hand_over, starts):
    """Nobody has to take it up for that."""
    process = processes.find(stack.state.process("processor-1"))
    process.suspend()
    try:
        handle = hand_over()
        wait_until(lambda: handle.refresh() or handle.document.version, within=10, what="a tracker has seen it")
        handle.cancel()
        document = handle.wait(timeout=5)
    finally:
        process.resume()
    assert ("canceled", "before-start") == (document.status, document.cancel_requested.how)
    assert document.cancel_requested.effective_at == document.finished_at
    after = hand_over()
    assert "succeeded" == after.wait(timeout=20).status
    assert 0 == starts(handle)


def test_a_running_job_stops_at_its_next_report(hand_over):
    """The request reaches it at once, not when the gate is next asked; and the document says when, and how."""
    took = []
    for _ in range(6):
        handle = hand_over(milliseconds=20_000)
        wait_until(lambda: now_is(handle, "running"), within=10, what="it runs")  # noqa: B023 - asked at once
        asked = handle.cancel()
        assert asked.cancel_requested is not None
        document = handle.wait(timeout=10)
        took.append((document.finished_at - document.cancel_requested.at).total_seconds())
        assert ("canceled", "cooperative") == (document.status, document.cancel_requested.how)
    shown = ", ".join(f"{seconds * 1000:.0f}" for seconds in took)
    print(f"cancel of a running job: effective after {shown} ms, of which up to 50 ms are its own")
    # The gate is asked once a second: without the control exchange, one of six in time is luck, and four are not.
    assert sorted(took)[3] < 0.25


@pytest.mark.parametrize("type", ["stubborn", "stubborn-async"])
def test_a_handler_that_will_not_stop_is_made_to(hand_over, type):
    """After the grace time, sync and async alike; the document says that it was by force."""
    handle = hand_over(type=type, milliseconds=20_000)
    wait_until(lambda: now_is(handle, "running"), within=10, what="it runs")
    handle.cancel()
    document = handle.wait(timeout=10)
    assert ("canceled", "forced") == (document.status, document.cancel_requested.how)


def test_a_cancel_that_comes_too_late_is_told_so(client, hand_over, http):
    """One winner, and no doubt which: 409 after the end, and the same 202 for the same request."""
    handle = hand_over(type="stubborn", milliseconds=2_000)
    wait_until(lambda: now_is(handle, "running"), within=10, what="it runs")
    first, again = handle.cancel(), handle.cancel()
    assert first.cancel_requested.at == again.cancel_requested.at
    document = handle.wait(timeout=10)
    assert ("succeeded", "too-late") == (document.status, document.cancel_requested.how)
    with pytest.raises(Refused, match="has ended already"):
        handle.cancel()
    problem(http.post(f"/v1/jobs/{handle.id}/cancel"), 409, "job-already-finished")
    problem(http.post("/v1/jobs/unknown/cancel"), 404, "unknown-job")


def test_whoever_wins_between_cancel_and_end_is_told_the_same_everywhere(hand_over, starts, ledger):
    """Forty races: a job is canceled or has succeeded, and never both."""
    handles = []
    for number in range(40):
        handle = hand_over(milliseconds=number * 5)
        handles.append(handle)
        wait_until(lambda handle=handle: handle.refresh() or handle.document.version, within=10, what="it is seen")
        try:
            handle.cancel()
        except Refused:
            assert now_is(handle, "succeeded")
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
def test_an_attempt_that_takes_too_long_is_stopped(hand_over, type):
    """By the `max_runtime` of its type, and by force where it does not listen."""
    document = hand_over(type=type, milliseconds=20_000).wait(timeout=15)
    assert ("failed", "timeout") == (document.status, document.error.kind)
    assert 3 <= (document.finished_at - document.started_at).total_seconds() < 9


def test_a_handler_that_holds_the_interpreter_keeps_its_job(hand_over, starts):
    """No heartbeat can be sent meanwhile; the broker waits longer than that."""
    handle = hand_over("hold-interpreter", milliseconds=21_000)
    document = handle.wait(timeout=60)
    assert ("succeeded", 1, 1) == (document.status, document.attempt, starts(handle))


# Interrupts.


def test_an_interrupted_job_goes_on_where_it_was(stack, hand_over, starts):
    """SIGTERM: it is put back at once, the attempt does not count, and the next one has what it saved."""
    handle = hand_over(type="patient", milliseconds=6_000)
    wait_until(lambda: now_is(handle, "running") and handle.document.progress, within=10, what="it runs")
    stack.restart("processor-1")
    document = handle.wait(timeout=30)
    begun_at, steps = document.result
    assert ("succeeded", 1, 600) == (document.status, document.attempt, steps)
    assert 0 < begun_at < 600
    assert [(1, "interrupted"), (1, "succeeded")] == whys(document)
    assert 2 == starts(handle)


# Dead letters.


def test_a_job_that_kills_its_workers_is_given_up_and_can_be_redriven(stack, client, hand_over, starts, ledger):
    """And an innocent one beside it succeeds. A redrive, once the cause is mended, is a new run of the same job."""
    guilty, innocent = hand_over("kill-until-mended"), hand_over(milliseconds=500)

    def ended(handle):
        revived(stack)
        return not now_is(handle, *OPEN)

    wait_until(lambda: ended(guilty) and ended(innocent), within=110, what="both have ended")
    revived(stack)
    assert ("failed", "dead_lettered") == (guilty.document.status, guilty.document.error.kind)
    assert "succeeded" == innocent.document.status
    assert 6 == starts(guilty), "three deliveries, and three in quarantine"
    assert [guilty.id] == [one.job_id for one in client.dead_letters(type="chaos").items if one.job_id == guilty.id]
    assert () == client.dead_letters(type="stubborn").items

    assert guilty.id in client.redrive_many(type="chaos", dry_run=True)
    assert "failed" == client.job(guilty.id).document.status, "a dry run does nothing"
    Path(f"{ledger}.mended").touch()
    again = client.redrive(guilty.id)
    assert 2 == again.document.run
    assert again.document.status in ("queued", "running", "succeeded"), "not the end of the last run"
    with pytest.raises(Refused, match="was not given up"):
        client.redrive(innocent.id)
    assert (2, "succeeded", 7) == (again.wait(timeout=30).run, again.document.status, starts(guilty))


def test_jobs_of_a_purged_queue_end_as_expired(stack, hand_over, client):
    """Exactly those, once their time is over; nothing stays open for ever."""
    revived(stack)
    process = processes.find(stack.state.process("processor-1"))
    process.suspend()
    try:
        handles = [hand_over(expires_in=timedelta(seconds=1)) for _ in range(5)]
        work = Topology().work("default")
        wait_until(lambda: depth(stack, work) + 4 >= 5, within=10, what="they wait")

        async def purge():
            async with await aio_pika.connect(stack.state.rabbitmq_url) as connection:
                queue = await (await connection.channel()).get_queue(work.name, ensure=False)
                return (await queue.purge()).message_count

        purged = asyncio.run(purge())
        # What the processor holds already is late by the time it goes on.
        last = handles[-1].document.start_by
        wait_until(lambda: datetime.now(UTC) > last, within=5, what="their time is over")
    finally:
        process.resume()
    kinds = [handle.wait(timeout=60).error.kind for handle in handles]
    assert purged >= 1
    assert ["expired"] * 5 == kinds, "those that were purged, and those that the processor came to too late"


def test_every_moment_of_a_job_has_an_end(client, hand_over):
    """After all of this, nothing is left open."""
    begun = time.monotonic()
    wait_until(
        lambda: not [one for one in client.jobs(limit=500) if one.status in ("queued", "running", "retrying")],
        within=90,
        what="nothing is open",
    )
    print(f"all quiet after {time.monotonic() - begun:.1f} s")
