"""The change feed over the view in memory: every notification has arrived at once."""

import asyncio
from contextlib import asynccontextmanager

from milepost_gateway.ports.change_feed import Listener


class FakeChangeFeed:
    def __init__(self, view):
        self._view = view

    def subscribe(self, job_id, notify):
        self._view.subscribers[job_id].add(notify)
        subscribed = asyncio.Event()
        subscribed.set()
        return subscribed

    def unsubscribe(self, job_id, notify):
        self._view.subscribers[job_id].discard(notify)

    async def all_received(self):
        return True

    def listen_to_tag(self, tenant, tag):
        return self.listen([])

    @asynccontextmanager
    async def listen(self, job_ids):
        listener = Listener()
        self._view.listeners.append(listener)
        self._view.listened.set()
        try:
            yield listener
        finally:
            self._view.listeners.remove(listener)
