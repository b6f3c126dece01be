"""The job index over the view in memory."""

import operator
from collections import Counter

from milepost_contracts.states import Status
from milepost_gateway.ports.job_index import Place


class FakeJobIndex:
    def __init__(self, view):
        self._view = view
        #: How often jobs were counted.
        self.counted = 0

    async def page(self, *, tenant, type_name, status, before, limit, batch=None):
        self._view.check()
        newest = self._newest(tenant, before)
        found = [(place, self._view.documents[place.job_id], self._view.snapshots[place.job_id]) for place in newest]
        return [
            (place, stored)
            for place, stored, snapshot in found
            if batch in (None, snapshot.job.batch)
            and status in (None, snapshot.status)
            and type_name in (None, snapshot.job.type)
        ][:limit]

    async def dead_letters(self, *, tenant, before, limit):
        self._view.check()
        return self._newest(tenant, before)[:limit]

    def _newest(self, tenant, before):
        places = [
            Place(int(snapshot.job.created_at.timestamp() * 1000), job_id)
            for job_id, snapshot in self._view.snapshots.items()
            if tenant == snapshot.job.tenant
        ]
        return sorted((place for place in places if before is None or place < before), reverse=True)

    async def tagged(self, tag, *, tenant, since, limit, newest=False):
        self._view.check()
        found = [
            (job_id, self._view.changed_at[job_id])
            for job_id, snapshot in self._view.snapshots.items()
            if tenant == snapshot.job.tenant and tag in snapshot.job.tags
        ]
        found.sort(key=operator.itemgetter(1, 0), reverse=newest)
        return self._view.time, [one for one in found if newest or one[1] >= since][:limit]

    async def unfinished(self, tag, *, tenant, limit):
        _, found = await self.tagged(tag, tenant=tenant, since=0, limit=len(self._view.snapshots), newest=True)
        return [job_id for job_id, _ in found if not self._view.snapshots[job_id].status.terminal][:limit]

    async def counts(self, *, tenant, batch=None, statuses=tuple(Status)):
        self._view.check()
        self.counted += 1
        found = Counter(
            snapshot.status
            for snapshot in self._view.snapshots.values()
            if tenant == snapshot.job.tenant and batch in (None, snapshot.job.batch)
        )
        return {status: found[status] for status in statuses}
