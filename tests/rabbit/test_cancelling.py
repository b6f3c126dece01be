"""Cancellation of tasks, including those that swallow a cancellation."""

import asyncio

import pytest

from milepost_rabbit import cancelling
from milepost_rabbit.cancelling import cancel_and_wait, run_concurrently


async def swallow_two_cancellations(received):
    """Swallow two cancellations and end at the third."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            received.append(True)
            if len(received) == 3:
                raise


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again(monkeypatch):
    """Before Python 3.12, a task that awaits `asyncio.wait_for` may swallow one."""
    monkeypatch.setattr(cancelling, "CANCEL_AGAIN_AFTER", 0.01)
    received = []
    task = asyncio.create_task(swallow_two_cancellations(received))
    await asyncio.sleep(0)
    await cancel_and_wait([task])
    assert (3, True) == (len(received), task.cancelled())


@pytest.mark.parametrize("ending", ["cancelled", "failed", "returned"])
async def test_cancel_and_wait_raises_no_error_of_a_task(ending):
    """The caller does not need it, and asyncio would warn of an error that is never retrieved."""

    async def work():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if ending == "failed":
                raise ValueError from None
            if ending == "cancelled":
                raise

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await cancel_and_wait([task])
    assert task.done()


async def test_cancel_and_wait_accepts_an_empty_list():
    """It returns at once."""
    await cancel_and_wait([])


async def test_a_cancelled_caller_ends_after_its_tasks(monkeypatch):
    """A second cancellation is passed on to the tasks, and the caller ends as cancelled."""
    monkeypatch.setattr(cancelling, "CANCEL_AGAIN_AFTER", 3600)
    received = []
    task = asyncio.create_task(swallow_two_cancellations(received))
    await asyncio.sleep(0)
    ending = asyncio.create_task(cancel_and_wait([task]))
    while not ending.done():
        await asyncio.sleep(0)
        ending.cancel()
    assert (3, True, True) == (len(received), task.cancelled(), ending.cancelled())


async def test_a_failure_ends_coroutines_that_swallow_a_cancellation(monkeypatch):
    """A subscription whose reader has failed is renewed; a task group would wait forever."""
    monkeypatch.setattr(cancelling, "CANCEL_AGAIN_AFTER", 0.01)
    received = []

    async def fail():
        await asyncio.sleep(0)
        raise ValueError("the reader's")

    with pytest.raises(ValueError, match="the reader's"):
        await run_concurrently(fail(), swallow_two_cancellations(received))
    assert 3 == len(received)


async def test_a_cancelled_caller_cancels_the_coroutines(monkeypatch):
    """The caller ends as cancelled, whatever the coroutines raise."""
    monkeypatch.setattr(cancelling, "CANCEL_AGAIN_AFTER", 0.01)
    received = []

    async def fail_when_cancelled():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise ConnectionError from None

    running = asyncio.create_task(run_concurrently(fail_when_cancelled(), swallow_two_cancellations(received)))
    for _ in range(3):
        await asyncio.sleep(0)
    await cancel_and_wait([running])
    assert (3, True) == (len(received), running.cancelled())


async def test_run_concurrently_waits_for_all_coroutines():
    """No coroutine fails here."""
    done = []

    async def do(number):
        await asyncio.sleep(0)
        done.append(number)

    await run_concurrently(do(1), do(2))
    assert [1, 2] == sorted(done)
