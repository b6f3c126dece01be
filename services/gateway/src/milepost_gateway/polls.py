"""Polls: what is asked for again and again is remembered, and told as long as that is still true.

It is told only after all word of changes has come that was on its way when it was asked for: so that nobody sees a
status go back, whichever gateways they ask, and whatever else tells them of the job.
"""

import asyncio
from dataclasses import dataclass

from milepost_gateway.ports import Changes, StatusStore, Stored

OFTEN = 10
"""A job that is asked for so often within a turn is remembered, in this one and the next."""
TURN = 1.0
"""Seconds. With each turn documents are read anew, whatever was heard, and what is not asked for often is forgotten."""


@dataclass(slots=True, eq=False)
class _Asked:
    """A job that was asked for in this turn, or often in the last one."""

    times: int = 0
    #: How often word of a change has come, or a turn.
    changes: int = 0
    #: Set while no word of a change is missed; nothing if none is listened for.
    heard: asyncio.Event | None = None
    #: What was read last, and has not changed since.
    stored: Stored | None = None

    @property
    def is_heard(self) -> bool:
        return self.heard is not None and self.heard.is_set()

    @property
    def still_stored(self) -> Stored | None:
        return self.stored if self.is_heard else None


class Polls:
    """Answers polls out of the store, and hot ones out of memory."""

    def __init__(self, store: StatusStore, changes: Changes) -> None:
        self._store = store
        self._changes = changes
        self._asked: dict[str, _Asked] = {}
        self._turning: asyncio.TimerHandle | None = None

    async def get(self, job_id: str) -> Stored | None:
        """Return the job's document, as `StatusStore.get` does."""
        asked = self._note(job_id)
        if asked.still_stored is not None and await self._changes.all_heard() and asked.still_stored is not None:
            return asked.still_stored
        heard, changes = asked.heard if asked.is_heard else None, asked.changes
        stored = await self._store.get(job_id)
        if heard is not None and asked.is_heard and (heard, changes) == (asked.heard, asked.changes):
            asked.stored = stored
        return stored

    def _note(self, job_id: str) -> _Asked:
        asked = self._asked.get(job_id)
        if asked is None:
            asked = self._asked[job_id] = _Asked()
            if self._turning is None:
                self._turning = asyncio.get_running_loop().call_later(TURN, self.turn)
        asked.times += 1
        if asked.times == OFTEN and not asked.is_heard:
            asked.heard, asked.stored = self._changes.attend(job_id, self._tell), None
        return asked

    def turn(self) -> None:
        """Begin another turn; a timer does so, while anything is remembered."""
        often = {job_id: asked for job_id, asked in self._asked.items() if asked.times >= OFTEN}
        for job_id, asked in self._asked.items():
            asked.times, asked.stored = 0, None
            asked.changes += 1  # what is being read now is not for the next turn
            if job_id not in often and asked.heard is not None:
                asked.heard = None
                self._changes.leave(job_id, self._tell)
        self._asked = often
        self._turning = asyncio.get_running_loop().call_later(TURN, self.turn) if often else None

    def _tell(self, job_id: str) -> None:
        asked = self._asked[job_id]
        asked.changes, asked.stored = asked.changes + 1, None
