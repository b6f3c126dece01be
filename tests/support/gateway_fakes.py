"""The ports of the gateway in memory: what a test puts in, an app of `tests/gateway` answers with."""

import asyncio
import operator
import socket
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256

from samples import BEAT

from milepost_contracts import steps
from milepost_contracts.access import Access as AccessRules
from milepost_contracts.document import render
from milepost_contracts.fleet import Beat, JobType
from milepost_contracts.states import Status
from milepost_contracts.webhooks import WebhookTry
from milepost_gateway.errors import BlobsUnavailable, BrokerUnavailable, JobExpired, StoreUnavailable, Unauthenticated
from milepost_gateway.ports import Happened, Listener, Place, Put, Snapshot, Stored, Tell, Told, Use
from milepost_rabbit.depth import Depth

RETENTION = timedelta(days=7)
TYPES = (
    JobType(
        type="count",
        queue="default",
        title="Count",
        params_schema={
            "type": "object",
            "properties": {"steps": {"type": "integer", "minimum": 0}, "a/b": {"type": "string"}},
            "additionalProperties": False,
        },
        result_schema={},
    ),
    JobType(type="crunch", queue="cpu", title="Crunch", params_schema={"type": "object"}, result_schema={}),
)


class FakeBroker:
    def __init__(self):
        self.submitted = []
        self.requests = []
        self.told = []
        self.error = None

    async def submit(self, command):
        if self.error is not None:
            raise self.error(command)
        self.submitted.append(command)

    async def say(self, request):
        if self.error is not None:
            raise self.error(request)
        self.requests.append(request)

    async def tell_again(self, event):
        if self.error is not None:
            raise self.error(event)
        self.told.append(event)

    async def depths(self, queues):
        if self.error is not None:
            raise BrokerUnavailable
        return {queue: Depth(ready=len(self.submitted), consumers=1) for queue in queues}

    async def answers(self):
        return self.error is None


class FakeStore:
    """A status store and a fleet store in memory."""

    def __init__(self):
        self.documents: dict[str, Stored] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.gone: set[str] = set()
        self.poisons: list[bytes] = []
        self.webhooks: dict[str, list[WebhookTry]] = defaultdict(list)
        self.happened: dict[str, list[Happened]] = defaultdict(list)
        #: The version up to which events are no longer kept.
        self.forgotten: dict[str, int] = {}
        self.listeners: list[Listener] = []
        self.attending: dict[str, set[Tell]] = defaultdict(set)
        #: Set once somebody has listened.
        self.listened = asyncio.Event()
        self.types = list(TYPES)
        self.beats: list[Beat] = [BEAT]
        self.away = False
        #: Milliseconds since 1970, by Redis's clock.
        self.time = 1
        self.changed_at: dict[str, int] = {}

    def _answer(self):
        if self.away:
            raise StoreUnavailable("away")

    async def get(self, job_id):
        self._answer()
        if job_id in self.gone:
            raise JobExpired
        return self.documents.get(job_id)

    async def told(self, job_id, since, *, latest=False, since_time=0):
        self._answer()
        if job_id not in self.documents:
            return None
        if since_time:
            since = max(1, since_time - 1 - self._created(job_id))
        kept = self.happened[job_id]
        events = kept[-1:] if latest else [event for event in kept if event.version > since]
        stored = self.documents[job_id]
        gap = since > (1 if since_time else 0) and since < self.forgotten.get(job_id, 0)
        return Told(version=stored.version, terminal=stored.terminal, gap=gap, events=tuple(events))

    def _created(self, job_id):
        return int(self.snapshots[job_id].job.created_at.timestamp() * 1000)

    async def snapshot(self, job_id):
        self._answer()
        return self.snapshots.get(job_id)

    async def dead_letters(self, *, tenant, before, limit):
        self._answer()
        return [(place, self.snapshots[place.job_id]) for place in self._newest(tenant, before)][:limit]

    async def poison(self, limit):
        self._answer()
        return self.poisons[:limit]

    async def page(self, *, tenant, type_name, status, before, limit, batch=None):
        self._answer()
        newest = self._newest(tenant, before)
        found = [(place, self.documents[place.job_id], self.snapshots[place.job_id]) for place in newest]
        return [
            (place, stored)
            for place, stored, snapshot in found
            if batch in (None, snapshot.job.batch)
            and status in (None, snapshot.status)
            and type_name in (None, snapshot.job.type)
        ][:limit]

    def _newest(self, tenant, before):
        places = [
            Place(int(snapshot.job.created_at.timestamp() * 1000), job_id)
            for job_id, snapshot in self.snapshots.items()
            if tenant == snapshot.job.tenant
        ]
        return sorted((place for place in places if before is None or place < before), reverse=True)

    async def tagged(self, tag, *, tenant, since, limit, newest=False):
        self._answer()
        found = [
            (job_id, self.changed_at[job_id])
            for job_id, snapshot in self.snapshots.items()
            if tenant == snapshot.job.tenant and tag in snapshot.job.tags
        ]
        found.sort(key=operator.itemgetter(1, 0), reverse=newest)
        return self.time, [one for one in found if newest or one[1] >= since][:limit]

    async def counts(self, *, tenant, batch=None):
        self._answer()
        found = Counter(
            snapshot.status
            for snapshot in self.snapshots.values()
            if tenant == snapshot.job.tenant and batch in (None, snapshot.job.batch)
        )
        return {status: found[status] for status in Status}

    async def tries(self, job_id):
        self._answer()
        return self.webhooks[job_id]

    async def answers(self):
        return not self.away

    async def job_types(self):
        self._answer()
        return self.types

    async def processors(self):
        self._answer()
        return self.beats

    def project(self, event, version=1, cancel=None):
        body = render(event, cancel=cancel, version=version, retention=RETENTION)
        terminal = event.status.terminal
        self.changed_at[event.job.id] = self.time
        self.documents[event.job.id] = Stored(version, body, terminal=terminal, cancel_requested=cancel is not None)
        self.snapshots[event.job.id] = Snapshot(job=event.job, status=event.status)
        self.happened[event.job.id].append(Happened(version, *steps.read(steps.kept(event))))
        for listener in self.listeners:
            listener.tell(event.job.id)
        for tell in self.attending[event.job.id]:
            tell(event.job.id)

    def attend(self, job_id, tell):
        self.attending[job_id].add(tell)
        heard = asyncio.Event()
        heard.set()
        return heard

    def leave(self, job_id, tell):
        self.attending[job_id].discard(tell)

    async def all_heard(self):
        return True

    def listen_to_tag(self, tenant, tag):
        return self.listen([])

    @asynccontextmanager
    async def listen(self, job_ids):
        listener = Listener()
        self.listeners.append(listener)
        self.listened.set()
        try:
            yield listener
        finally:
            self.listeners.remove(listener)


class FakeBlobs:
    def __init__(self):
        self.stored: dict[str, bytes] = {}
        self.away = False

    async def put(self, key: str, content: AsyncIterator[bytes]) -> Put:
        stored = self.stored[key] = b"".join([chunk async for chunk in content])
        return Put(len(stored), sha256(stored).hexdigest())

    async def open(self, key, start, end):
        self._answer()
        if key not in self.stored:
            raise JobExpired

        async def bytewise():
            for at in range(start, end):
                yield self.stored[key][at : at + 1]

        return bytewise()

    async def keys(self, folder):
        self._answer()
        for key in list(self.stored):
            if key.startswith(f"{folder}/"):
                yield key

    def _answer(self):
        if self.away:
            raise BlobsUnavailable

    async def remove(self, keys):
        for key in keys:
            self.stored.pop(key, None)


class FakeKeyStore:
    def __init__(self):
        self.uses: dict[tuple[str, str], Use] = {}
        self.away = False

    async def claim(self, tenant, key, use, *, lasts):
        self._answer()
        earlier = self.uses.get((tenant, key))
        self.uses.setdefault((tenant, key), use)
        return earlier

    async def settle(self, tenant, key, use, *, lasts):
        self._answer()
        self.uses[tenant, key] = use

    async def release(self, tenant, key, use):
        self._answer()
        if self.uses.get((tenant, key)) == use:
            del self.uses[tenant, key]

    def _answer(self):
        if self.away:
            raise StoreUnavailable("away")


class FakeRules:
    """An access file, or none."""

    def __init__(self, access=None):
        self.access = access

    def current(self):
        return self.access or AccessRules()


class FakeTokens:
    def __init__(self):
        self.good: dict[str, dict[str, str]] = {}

    async def verify(self, token, issuers):
        if token not in self.good:
            raise Unauthenticated("not a good one")
        return self.good[token], issuers[0].tenant_claim


class FakeHosts:
    """What a resolver would find."""

    def __init__(self):
        self.found = {"hooks.example.com": ["93.184.215.14"]}
        self.asked = []

    def __call__(self, host):
        self.asked.append(host)
        if host not in self.found:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        if isinstance(self.found[host], Exception):
            raise self.found[host]
        return self.found[host]
