"""Hears from Redis that jobs have changed: one subscription for the whole process, however many listen.

What is heard is a hint, and may be lost: the versions of all jobs that anybody listens to are looked at now and then.
Who must know that nothing is lost, and nothing on its way, can ask for that.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from milepost_contracts.keys import SHARDS, Keys, shard_of
from milepost_gateway.ports import Listener, Tell
from milepost_rabbit.cancelling import together

log = structlog.get_logger(__name__)

LOOK_EVERY = 2.0
"""Seconds between two looks at the versions of what is listened to."""
HEARD_WITHIN = 0.5
"""Seconds for which a listener waits until its shard is subscribed to; after that the looks must do."""
SILENT = 5.0
"""Seconds after which a subscription that says nothing is asked whether it is still there."""
AT_ONCE = 500
PROVEN_WITHIN = 2.0
"""Seconds for the subscription to say how far it is; it is made anew if it does not."""
PROOF, STILL_THERE = b"all", b"there"
"""What a subscription is asked, and answers."""


class _Subscription(PubSub):
    """A subscription that ends with its connection: by itself it would connect anew, and not say that word was lost."""

    async def connect(self) -> None:
        if self.connection is not None and not self.connection.is_connected:
            raise RedisConnectionError("the connection was lost")
        await super().connect()  # type: ignore[no-untyped-call]

    async def on_connect(self, connection: Connection) -> None:
        """Refuse a second connection; the first one calls nobody."""
        del connection
        raise RedisConnectionError("connected anew: what was said meanwhile is lost")

    async def ask(self, question: bytes) -> None:
        """Send a ping with this text, which is the answer too, over the connection there is."""
        if self.connection is None or not self.connection.is_connected:  # else it would connect, beside who reads
            raise RedisConnectionError("the connection was lost")
        await self.connection.send_command("PING", question, check_health=False)


class RedisChanges:
    """See `ports.Changes`. The subscription belongs to one task: whoever listens only says which shard it wants."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        #: Whom to tell that a job has changed.
        self._listeners: dict[str, set[Tell]] = defaultdict(set)
        #: How many listen to each shard.
        self._wanted: Counter[int] = Counter()
        #: The channels that are subscribed to, each with whether Redis has said so.
        self._subscribed: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._more_wanted = asyncio.Event()
        #: Who wants to know whether all has come, from the next proof.
        self._doubting: list[asyncio.Future[bool]] = []
        self._in_doubt, self._proven = asyncio.Event(), asyncio.Event()
        self._proves = False
        self._versions: dict[str, bytes] = {}
        self._shards = frozenset(keys.changes(shard) for shard in range(SHARDS))
        #: Who listens to each tag, by its channel.
        self._tags: dict[str, set[Listener]] = defaultdict(set)

    @asynccontextmanager
    async def listen(self, job_ids: Sequence[str]) -> AsyncIterator[Listener]:
        listener = Listener()
        heard = [self.attend(job_id, listener.tell) for job_id in job_ids]
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARD_WITHIN):
                    for one in heard:
                        await one.wait()
            yield listener
        finally:
            for job_id in job_ids:
                self.leave(job_id, listener.tell)

    def attend(self, job_id: str, tell: Tell) -> asyncio.Event:
        shard = shard_of(job_id)
        if tell not in self._listeners[job_id]:
            self._listeners[job_id].add(tell)
            self._wanted[shard] += 1
            self._more_wanted.set()
        return self._subscribed[self._keys.changes(shard)]

    def leave(self, job_id: str, tell: Tell) -> None:
        if tell not in self._listeners.get(job_id, ()):
            return
        self._wanted[shard_of(job_id)] -= 1
        self._listeners[job_id].discard(tell)
        if not self._listeners[job_id]:
            del self._listeners[job_id]
            self._versions.pop(job_id, None)

    async def all_heard(self) -> bool:
        if not self._proves:
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._doubting.append(answer)
        self._in_doubt.set()
        return await answer

    @asynccontextmanager
    async def listen_to_tag(self, tenant: str, tag: str) -> AsyncIterator[Listener]:
        listener, channel = Listener(), self._keys.changes_of_tag(tenant, tag)
        self._tags[channel].add(listener)
        self._more_wanted.set()
        try:
            yield listener
        finally:
            self._tags[channel].discard(listener)
            if not self._tags[channel]:
                del self._tags[channel]

    async def keep(self) -> None:
        """Hear and look until cancelled."""
        await together(self._again_and_again(self._hear), self._again_and_again(self._look))

    async def _again_and_again(self, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await act()
            except (RedisError, OSError) as error:
                log.warning("changes_unheard", error=str(error))
            except Exception:  # whatever it was: nobody else hears
                log.exception("changes_unheard")
            await asyncio.sleep(LOOK_EVERY / 2)

    async def _hear(self) -> None:
        """Hear over one connection, for as long as it lasts."""
        self._more_wanted.set()
        async with _Subscription(self._redis.connection_pool) as pubsub:
            await pubsub.subscribe(self._keys.namespace)  # so that it is connected while nobody listens
            await together(self._read(pubsub), self._subscribe(pubsub), self._prove(pubsub))

    async def _prove(self, pubsub: _Subscription) -> None:
        """Ask, once for all who are in doubt, for an answer that comes behind all that was said before."""
        self._proves = True
        asking: list[asyncio.Future[bool]] = []
        try:
            while True:
                await self._in_doubt.wait()
                self._in_doubt.clear()
                self._proven.clear()
                asking, self._doubting = self._doubting, []
                async with asyncio.timeout(PROVEN_WITHIN):
                    await pubsub.ask(PROOF)
                    await self._proven.wait()
                _settle(asking, proven=True)
        except TimeoutError as error:
            raise RedisConnectionError("the subscription does not say how far it is") from error
        finally:
            self._proves = False
            _settle([*asking, *self._doubting], proven=False)
            self._doubting = []

    async def _subscribe(self, pubsub: PubSub) -> None:
        """Subscribe to what somebody wants to hear, and leave the rest now and then."""
        done: set[str] = set()
        while True:
            if new := self._channels() - done:
                await pubsub.subscribe(*new)
                done |= new
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._more_wanted.wait()
                    self._more_wanted.clear()
                    continue
            if idle := done - self._channels():
                done -= idle
                for channel in idle:  # who wants it from now on waits for a new subscription
                    self._forget(channel)
                await pubsub.unsubscribe(*idle)

    def _forget(self, channel: str) -> None:
        self._subscribed.pop(channel, asyncio.Event()).clear()

    def _channels(self) -> set[str]:
        """Return what somebody wants to hear."""
        return {self._keys.changes(shard) for shard, count in self._wanted.items() if count > 0} | set(self._tags)

    async def _read(self, pubsub: _Subscription) -> None:
        try:
            await self._take_word(pubsub)
        finally:
            for channel in list(self._subscribed):
                self._forget(channel)

    async def _take_word(self, pubsub: _Subscription) -> None:
        asked = False
        while True:
            message = await pubsub.get_message(timeout=SILENT)
            if message is None:
                if asked:
                    raise RedisConnectionError("the subscription does not answer any more")
                await pubsub.ask(STILL_THERE)
            elif message["type"] == "pong" and message["data"] == PROOF:
                self._proven.set()
            elif message["type"] == "subscribe":
                self._subscribed[message["channel"].decode()].set()
            elif message["type"] == "unsubscribe":  # a confirmation that came late has set it
                self._forget(message["channel"].decode())
            elif message["type"] == "message":
                self._heard(message["channel"].decode(), message["data"].decode())
            asked = message is None

    def _heard(self, channel: str, text: str) -> None:
        if channel in self._shards:
            job_id, version, _ = text.split(" ", 2)
            self._note(job_id, version.encode())
        for listener in self._tags.get(channel, ()):
            for job_id in text.split(" "):
                listener.tell(job_id)

    async def _look(self) -> None:
        """Find out what was not heard."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            job_ids = list(self._listeners)
            for at in range(0, len(job_ids), AT_ONCE):
                await self._compare(job_ids[at : at + AT_ONCE])

    async def _compare(self, job_ids: Sequence[str]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(self._keys.job(job_id), "version")
            versions: list[Any] = await pipe.execute()
        for job_id, version in zip(job_ids, versions, strict=True):
            if version is not None and self._versions.get(job_id) != version:
                self._note(job_id, version)

    def _note(self, job_id: str, version: bytes) -> None:
        if job_id in self._listeners:
            self._versions[job_id] = version
            for tell in self._listeners[job_id]:
                tell(job_id)


def _settle(doubting: Sequence[asyncio.Future[bool]], *, proven: bool) -> None:
    for answer in doubting:
        if not answer.done():
            answer.set_result(proven)
