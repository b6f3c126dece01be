"""The status store over the view in memory."""

from milepost_gateway.errors import JobExpired
from milepost_gateway.ports.status_store import EventsRead


class FakeStatusStore:
    def __init__(self, view):
        self._view = view

    async def get(self, job_id):
        self._view.check()
        if job_id in self._view.deleted:
            raise JobExpired
        return self._view.documents.get(job_id)

    async def snapshot(self, job_id):
        self._view.check()
        return self._view.snapshots.get(job_id)

    async def events(self, job_id, since, *, latest=False, since_time=0):
        view = self._view
        view.check()
        if job_id not in view.documents:
            return None
        if since_time:
            created = int(view.snapshots[job_id].job.created_at.timestamp() * 1000)
            since = max(1, since_time - 1 - created)
        stored_events = view.events[job_id]
        events = stored_events[-1:] if latest else [event for event in stored_events if event.version > since]
        stored = view.documents[job_id]
        gap = since > (1 if since_time else 0) and since < view.history_from.get(job_id, 0)
        return EventsRead(version=stored.version, terminal=stored.terminal, gap=gap, events=tuple(events))

    async def answers(self):
        return not self._view.away
