"""Ending tasks, also those that lose a cancellation."""

import asyncio

import pytest

from milepost_rabbit import cancelling
from milepost_rabbit.cancelling import end


async def test_a_task_that_loses_a_cancellation_is_asked_again(monkeypatch):
    """As one that awaits `asyncio.wait_for` may, before Python 3.12."""
    monkeypatch.setattr(cancelling, "ASK_AGAIN", 0.01)
    lost = []

    async def lossy():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost.append(True)
                if len(lost) == 3:
                    raise

    task = asyncio.create_task(lossy())
    await asyncio.sleep(0)
    await end([task])
    assert (3, True) == (len(lost), task.cancelled())


@pytest.mark.parametrize("ending", ["cancelled", "failed", "returned"])
async def test_however_a_task_ends_nothing_is_raised(ending):
    """Whoever ends a task has no use for its error, and an error that nobody looks at is a warning."""

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
    await end([task])
    assert task.done()


async def test_ending_nothing_ends():
    """At once."""
    await end([])
