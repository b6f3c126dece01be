"""Notifications through Redis's pub/sub: one subscription per process, for any number of clients.

Pub/sub may lose a notification, so the versions of all jobs that somebody waits for are compared every two seconds.
`all_received` sends a PING over the subscription: its answer arrives after all earlier notifications.
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

from milepost_contracts.status.redis_keys import SHARDS, Keys, shard_of
from milepost_gateway.ports.change_feed import Listener, Notify
from milepost_rabbit.cancelling import run_concurrently
from milepost_redis.calls import execute

log = structlog.get_logger(__name__)

COMPARE_INTERVAL = 2.0
"""Seconds between two comparisons of the versions of all jobs that somebody waits for."""
SUBSCRIBE_TIMEOUT = 0.5
"""Seconds for which a listener waits for the subscription of its shard; after that, it relies on the comparisons."""
PING_AFTER = 5.0
"""Seconds without a message after which the subscription is sent a PING."""
COMPARE_BATCH = 500
PROOF_TIMEOUT = 2.0
"""Seconds within which a PING must be answered; otherwise a new subscription is made."""
PROOF_PING, KEEPALIVE_PING = b"all", b"there"
"""The texts of the PINGs, which their answers repeat."""


class _Subscription(PubSub):
    """A subscription that ends with its connection: redis-py's own reconnects, and hides that messages were lost."""

    async def connect(self) -> None:
        if self.connection is not None and not self.connection.is_connected:
            raise RedisConnectionError("the connection was lost")
        await super().connect()  # type: ignore[no-untyped-call]

    async def on_connect(self, connection: Connection) -> None:
        """Refuse a second connection; redis-py does not call this for the first one."""
        del connection
        raise RedisConnectionError("the subscription reconnected: messages may be lost")

    async def send_ping(self, text: bytes) -> None:
        """Send a PING with this text over the existing connection; the answer arrives as a message."""
        if self.connection is None or not self.connection.is_connected:  # else this would connect, beside the reader
            raise RedisConnectionError("the connection was lost")
        await self.connection.send_command("PING", text, check_health=False)


class RedisChangeFeed:
    """Implements `ports.change_feed.ChangeFeed`. One task owns the subscription; others name the shards they want."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        #: Whom to notify of each job.
        self._listeners: dict[str, set[Notify]] = defaultdict(set)
        #: The number of subscribers of each shard.
        self._wanted: Counter[int] = Counter()
        #: Set once Redis has confirmed the subscription, by channel.
        self._subscribed: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._wanted_changed = asyncio.Event()
        #: Callers of `all_received` that wait for the next proof.
        self._proof_callers: list[asyncio.Future[bool]] = []
        self._proof_wanted, self._proof_arrived = asyncio.Event(), asyncio.Event()
        self._can_prove = False
        self._versions: dict[str, bytes] = {}
        self._shards = frozenset(keys.changes(shard) for shard in range(SHARDS))
        #: The listeners of each tag, by its channel.
        self._tags: dict[str, set[Listener]] = defaultdict(set)

    @asynccontextmanager
    async def listen(self, job_ids: Sequence[str]) -> AsyncIterator[Listener]:
        listener = Listener()
        subscriptions = [self.subscribe(job_id, listener.notify) for job_id in job_ids]
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(SUBSCRIBE_TIMEOUT):
                    for subscribed in subscriptions:
                        await subscribed.wait()
            yield listener
        finally:
            for job_id in job_ids:
                self.unsubscribe(job_id, listener.notify)

    def subscribe(self, job_id: str, notify: Notify) -> asyncio.Event:
        shard = shard_of(job_id)
        if notify not in self._listeners[job_id]:
            self._listeners[job_id].add(notify)
            self._wanted[shard] += 1
            self._wanted_changed.set()
        return self._subscribed[self._keys.changes(shard)]

    def unsubscribe(self, job_id: str, notify: Notify) -> None:
        if notify not in self._listeners.get(job_id, ()):
            return
        self._wanted[shard_of(job_id)] -= 1
        self._listeners[job_id].discard(notify)
        if not self._listeners[job_id]:
            del self._listeners[job_id]
            self._versions.pop(job_id, None)

    async def all_received(self) -> bool:
        if not self._can_prove:
            return False
        proof: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._proof_callers.append(proof)
        self._proof_wanted.set()
        return await proof

    @asynccontextmanager
    async def listen_to_tag(self, tenant: str, tag: str) -> AsyncIterator[Listener]:
        listener, channel = Listener(), self._keys.changes_of_tag(tenant, tag)
        self._tags[channel].add(listener)
        self._wanted_changed.set()
        try:
            yield listener
        finally:
            self._tags[channel].discard(listener)
            if not self._tags[channel]:
                del self._tags[channel]

    async def keep(self) -> None:
        """Receive notifications, and compare versions, until cancelled."""
        await run_concurrently(self._repeat(self._receive), self._repeat(self._compare_all))

    async def _repeat(self, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await act()
            except (RedisError, OSError) as error:
                log.warning("change_feed_interrupted", error=str(error))
            except Exception:  # whatever it was: without this task nobody is notified
                log.exception("change_feed_interrupted")
            await asyncio.sleep(COMPARE_INTERVAL / 2)

    async def _receive(self) -> None:
        """Receive notifications over one connection, for as long as it lasts."""
        self._wanted_changed.set()
        async with _Subscription(self._redis.connection_pool) as pubsub:
            await pubsub.subscribe(self._keys.namespace)  # so that it is connected while nobody listens
            await run_concurrently(self._read(pubsub), self._subscribe(pubsub), self._prove(pubsub))

    async def _prove(self, pubsub: _Subscription) -> None:
        """Send one PING for all who wait for a proof: its answer arrives behind every notification before it."""
        self._can_prove = True
        callers: list[asyncio.Future[bool]] = []
        try:
            while True:
                await self._proof_wanted.wait()
                self._proof_wanted.clear()
                self._proof_arrived.clear()
                callers, self._proof_callers = self._proof_callers, []
                async with asyncio.timeout(PROOF_TIMEOUT):
                    await pubsub.send_ping(PROOF_PING)
                    await self._proof_arrived.wait()
                _resolve(callers, proven=True)
        except TimeoutError as error:
            raise RedisConnectionError("the subscription does not answer a PING") from error
        finally:
            self._can_prove = False
            _resolve([*callers, *self._proof_callers], proven=False)
            self._proof_callers = []

    async def _subscribe(self, pubsub: PubSub) -> None:
        """Subscribe to the channels that are wanted, and unsubscribe from the others now and then."""
        done: set[str] = set()
        while True:
            if new := self._channels() - done:
                await pubsub.subscribe(*new)
                done |= new
            with suppress(TimeoutError):
                async with asyncio.timeout(COMPARE_INTERVAL):
                    await self._wanted_changed.wait()
                    self._wanted_changed.clear()
                    continue
            if idle := done - self._channels():
                done -= idle
                for channel in idle:  # a subscriber from now on waits for a new confirmation
                    self._unconfirm(channel)
                await pubsub.unsubscribe(*idle)

    def _unconfirm(self, channel: str) -> None:
        self._subscribed.pop(channel, asyncio.Event()).clear()

    def _channels(self) -> set[str]:
        """Return the channels that are wanted."""
        return {self._keys.changes(shard) for shard, count in self._wanted.items() if count > 0} | set(self._tags)

    async def _read(self, pubsub: _Subscription) -> None:
        try:
            await self._handle_messages(pubsub)
        finally:
            for channel in list(self._subscribed):
                self._unconfirm(channel)

    async def _handle_messages(self, pubsub: _Subscription) -> None:
        silent = False
        while True:
            message = await pubsub.get_message(timeout=PING_AFTER)
            if message is None:
                if silent:
                    raise RedisConnectionError("the subscription does not answer any more")
                await pubsub.send_ping(KEEPALIVE_PING)
            elif message["type"] == "pong" and message["data"] == PROOF_PING:
                self._proof_arrived.set()
            elif message["type"] == "subscribe":
                self._subscribed[message["channel"].decode()].set()
            elif message["type"] == "unsubscribe":  # a late confirmation of the subscription has set it again
                self._unconfirm(message["channel"].decode())
            elif message["type"] == "message":
                self._received(message["channel"].decode(), message["data"].decode())
            silent = message is None

    def _received(self, channel: str, text: str) -> None:
        if channel in self._shards:
            job_id, version, _ = text.split(" ", 2)
            self._notify(job_id, version.encode())
        for listener in self._tags.get(channel, ()):
            for job_id in text.split(" "):
                listener.notify(job_id)

    async def _compare_all(self) -> None:
        """Find changes whose notification was lost."""
        while True:
            await asyncio.sleep(COMPARE_INTERVAL)
            job_ids = list(self._listeners)
            for at in range(0, len(job_ids), COMPARE_BATCH):
                await self._compare(job_ids[at : at + COMPARE_BATCH])

    async def _compare(self, job_ids: Sequence[str]) -> None:
        def fill(pipe: Any) -> None:
            for job_id in job_ids:
                pipe.hget(self._keys.job(job_id), "version")

        versions: list[bytes | None] = await execute(self._redis, fill)
        for job_id, version in zip(job_ids, versions, strict=True):
            if version is not None and self._versions.get(job_id) != version:
                self._notify(job_id, version)

    def _notify(self, job_id: str, version: bytes) -> None:
        if job_id in self._listeners:
            self._versions[job_id] = version
            for notify in self._listeners[job_id]:
                notify(job_id)


def _resolve(callers: Sequence[asyncio.Future[bool]], *, proven: bool) -> None:
    for proof in callers:
        if not proof.done():  # its caller was cancelled
            proof.set_result(proven)
