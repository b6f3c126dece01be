"""The status view in memory: tests project events into it, and the fakes of the ports read it."""

import asyncio
from collections import defaultdict
from datetime import timedelta

from milepost_contracts.status import history
from milepost_gateway.errors import StoreUnavailable
from milepost_gateway.ports.change_feed import Listener, Notify
from milepost_gateway.ports.status_store import Event, Snapshot, StoredDocument

RETENTION = timedelta(days=7)


class FakeView:
    def __init__(self):
        self.documents: dict[str, StoredDocument] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.deleted: set[str] = set()
        self.events: dict[str, list[Event]] = defaultdict(list)
        #: The version up to which the events have expired.
        self.history_from: dict[str, int] = {}
        self.listeners: list[Listener] = []
        self.subscribers: dict[str, set[Notify]] = defaultdict(set)
        #: Set once a reader listens.
        self.listened = asyncio.Event()
        #: Whether Redis is away.
        self.away = False
        #: Milliseconds since 1970, by Redis's clock.
        self.time = 1
        self.changed_at: dict[str, int] = {}

    def check(self):
        if self.away:
            raise StoreUnavailable("away")

    def project(self, event, version=1, cancel=None):
        """Apply an event as a tracker does, and notify."""
        job_id = event.job.id
        self.changed_at[job_id] = self.time
        self.documents[job_id] = StoredDocument.of(event, version=version, cancel=cancel, retention=RETENTION)
        self.snapshots[job_id] = Snapshot(job=event.job, status=event.status)
        self.events[job_id].append(Event(version, *history.read(history.write(event))))
        for listener in self.listeners:
            listener.notify(job_id)
        for notify in self.subscribers[job_id]:
            notify(job_id)
