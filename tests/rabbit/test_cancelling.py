"""Ending tasks, also those that lose a cancellation."""

import asyncio

import pytest

from milepost_rabbit import cancelling
from milepost_rabbit.cancelling import end, together


async def lossy(lost):
    """Lose two cancellations."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            lost.append(True)
            if len(lost) == 3:
                raise


async def test_a_task_that_loses_a_cancellation_is_asked_again(monkeypatch):
    """As one that awaits `asyncio.wait_for` may, before Python 3.12."""
    monkeypatch.setattr(cancelling, "ASK_AGAIN", 0.01)
    lost = []
    task = asyncio.create_task(lossy(lost))
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


async def test_who_is_cancelled_while_it_ends_others_has_ended_them(monkeypatch):
    """A second cancellation reaches them too, and is not lost."""
    monkeypatch.setattr(cancelling, "ASK_AGAIN", 3600)
    lost = []
    task = asyncio.create_task(lossy(lost))
    await asyncio.sleep(0)
    ending = asyncio.create_task(end([task]))
    while not ending.done():
        await asyncio.sleep(0)
        ending.cancel()
    assert (3, True, True) == (len(lost), task.cancelled(), ending.cancelled())


async def test_when_one_fails_the_others_end_though_they_lose_a_cancellation(monkeypatch):
    """A subscription whose reader has failed is made anew; a task group would have waited for ever."""
    monkeypatch.setattr(cancelling, "ASK_AGAIN", 0.01)
    lost = []

    async def fail():
        await asyncio.sleep(0)
        raise ValueError("the reader's")

    with pytest.raises(ValueError, match="the reader's"):
        await together(fail(), lossy(lost))
    assert 3 == len(lost)


async def test_who_does_things_together_is_cancelled_with_them(monkeypatch):
    """And it is seen that it was cancelled, whatever they raise."""
    monkeypatch.setattr(cancelling, "ASK_AGAIN", 0.01)
    lost = []

    async def fail_when_cancelled():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise ConnectionError from None

    doing = asyncio.create_task(together(fail_when_cancelled(), lossy(lost)))
    for _ in range(3):
        await asyncio.sleep(0)
    await end([doing])
    assert (3, True) == (len(lost), doing.cancelled())


async def test_what_is_done_together_is_waited_for():
    """All of it, when nothing fails."""
    done = []

    async def do(what):
        await asyncio.sleep(0)
        done.append(what)

    await together(do(1), do(2))
    assert [1, 2] == sorted(done)
