"""The periodic duties: an error in one neither ends it nor the tracker, and lost jobs are ended with care."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest

from milepost_rabbit.cancelling import cancel_and_wait
from milepost_tracker.core.duties import MAX_LAG, end_overdue, every
from milepost_tracker.errors import EventLogUnavailable, StoreUnavailable


class FakeReaper:
    def __init__(self):
        self.calls = 0

    async def end_overdue(self, *, receiving):
        self.calls += receiving


@pytest.mark.parametrize(
    "behind, complete, connected, calls",
    [
        (timedelta(0), True, True, 1),
        (MAX_LAG, True, True, 0),
        (timedelta(0), False, True, 0),
        (timedelta(0), True, False, 0),
    ],
    ids=["current", "lagging", "incomplete", "disconnected"],
)
async def test_no_job_is_ended_as_lost_while_the_view_may_lack_its_event(behind, complete, connected, calls):
    """The event that the job waits for may be in the tracker's queue, or in the log."""
    reaper = FakeReaper()
    status, replayer = SimpleNamespace(behind=behind), SimpleNamespace(complete=complete)
    await end_overdue(reaper, status, replayer, is_connected=lambda: connected)
    assert calls == reaper.calls


@pytest.mark.parametrize("error", [StoreUnavailable("away"), EventLogUnavailable("away"), ZeroDivisionError()])
async def test_a_failed_duty_is_tried_again(error):
    """Also after an unexpected error: every other tracker would meet it too, one after the other."""
    repeated = asyncio.Event()

    async def act(errors=[error]):  # noqa: B006 - raised once
        if errors:
            raise errors.pop()
        repeated.set()

    task = asyncio.create_task(every(timedelta(0), act))
    await asyncio.wait_for(repeated.wait(), 10)
    await cancel_and_wait([task])
