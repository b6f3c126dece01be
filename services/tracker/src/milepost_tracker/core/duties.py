"""The periodic duties beside the projection: how they are repeated, and when jobs may be ended as lost."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from milepost_tracker.core.projector import StatusProjector
from milepost_tracker.core.reaper import Reaper
from milepost_tracker.core.replay import Replayer
from milepost_tracker.errors import EventLogUnavailable, StoreUnavailable

log = structlog.get_logger(__name__)

MAX_LAG = timedelta(seconds=10)
"""While the view lags more than this, no job is ended as lost or published again: its event may be on its way."""


def is_current(status: StatusProjector, replayer: Replayer, *, is_connected: Callable[[], bool]) -> bool:
    """Whether the view has all events but the latest ones, so that what it lacks may be concluded from."""
    return status.behind < MAX_LAG and replayer.complete and is_connected()


async def end_overdue(
    reaper: Reaper, status: StatusProjector, replayer: Replayer, *, is_connected: Callable[[], bool]
) -> None:
    """End overdue jobs, unless the view may lack the events that they wait for."""
    await reaper.end_overdue(receiving=is_current(status, replayer, is_connected=is_connected))


async def every(pause: timedelta, act: Callable[[], Awaitable[None]]) -> None:
    """Act after each pause until cancelled; what fails now is tried the next time.

    Nor does an unexpected error end the process: the next tracker would meet the same one, and nobody would project.
    """
    while True:
        await asyncio.sleep(pause.total_seconds())
        try:
            await act()
        except (StoreUnavailable, EventLogUnavailable) as error:
            log.warning("duty_postponed", duty=act.__name__, error=str(error))
        except Exception:
            log.exception("duty_failed", duty=act.__name__)
