"""The tracker's duties, as they are put together."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from milepost_tracker.bootstrap import _periodic_duties


class FakeReaper:
    def __init__(self):
        self.calls = []

    async def end_overdue(self, *, receiving):
        self.calls.append(receiving)


@pytest.mark.parametrize(
    "complete, connected, receiving", [(True, True, True), (False, True, False), (True, False, False)]
)
async def test_the_duty_that_ends_lost_jobs_waits_for_the_view(complete, connected, receiving):
    """While the view may lack events, nobody knows which jobs are lost."""
    reaper = FakeReaper()
    made = _periodic_duties(
        SimpleNamespace(),
        SimpleNamespace(link=SimpleNamespace(is_up=connected)),
        SimpleNamespace(behind=timedelta(0)),
        reaper,
        SimpleNamespace(complete=complete),
        SimpleNamespace(every=timedelta(days=1)),
        SimpleNamespace(),
        SimpleNamespace(),
    )
    (act,) = [act for _, act in made if act.__name__ == "end_overdue"]
    await act()
    assert [receiving] == reaper.calls
