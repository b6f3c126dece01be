"""Whether a Redis server may be used: it must keep every key, and be one server with the database of the URL."""

import os
import signal
import threading
from collections.abc import Mapping
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

log = structlog.get_logger(__name__)

TIMEOUT = 2.0
"""Seconds for one attempt to ask the server, and how long the start of a service waits for the first."""
RETRY_INTERVAL = 5.0
"""Seconds between two attempts while the server does not answer."""


class UnsafeRedis(Exception):  # noqa: N818 - named as the condition
    """This Redis must not be used."""


def describe_server(url: str, *, allow_eviction: bool) -> str:
    """Return the version and the eviction policy of a server.

    Raises:
        UnsafeRedis: It must not be used.
        RedisError, OSError: It can't be asked now.
    """
    with Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT) as client:
        try:
            info = client.info()
        except NoPermissionError:
            log.warning("redis_not_checked", detail="its user may not call INFO, which says whether it evicts keys")
            return "answers; its user may not call INFO"
        except ResponseError as error:
            if "DB index" in str(error):
                raise UnsafeRedis(f"MILEPOST_REDIS_URL: it has no database of this number: {error}") from error
            raise
        except RedisTimeout as error:
            if url.startswith("rediss:"):  # a server without TLS waits for the rest of a command
                raise RedisTimeout(
                    f"{error}: does this port of the server speak TLS? Otherwise write redis://"
                ) from error
            raise
    if sentence := why_unsafe(info, allow_eviction=allow_eviction):
        raise UnsafeRedis(sentence)
    return f"Redis {info.get('redis_version')}, maxmemory-policy {info.get('maxmemory_policy')}"


def why_unsafe(info: Mapping[str, Any], *, allow_eviction: bool) -> str | None:
    """Return why a server with this `INFO` must not be used, if so."""
    if str(info.get("cluster_enabled", 0)) == "1":
        return "MILEPOST_REDIS_URL: it is a node of a Redis Cluster: use a Redis that is not one"
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if int(info.get("maxmemory", 0)) and policy != "noeviction" and not allow_eviction:
        return (
            f"MILEPOST_REDIS_URL: it deletes keys when its memory is full, so jobs would lose their status: set its "
            f"maxmemory-policy to noeviction, not {policy}, or add evicting-redis to MILEPOST_ALLOW"
        )
    return None


class ServerCheck:
    """Asks a Redis server until it answers: services start without it, and end when it must not be used."""

    def __init__(self, url: str, *, allow_eviction: bool) -> None:
        self._url = url
        self._allow_eviction = allow_eviction
        self._asked_once = threading.Event()
        self._started = self._warned = False
        #: Why it must not be used, once that is known.
        self._refused: str | None = None

    def start(self) -> None:
        """Ask for the first time. If there is no answer, go on asking on a thread; a refusal then ends the process.

        Raises:
            UnsafeRedis: It must not be used.
        """
        threading.Thread(target=self._ask_until_answered, name="redis check", daemon=True).start()
        self._asked_once.wait(2 * TIMEOUT)
        self._started = True
        self.raise_if_refused()

    def raise_if_refused(self) -> None:
        """Raise `UnsafeRedis` if it is known that the server must not be used."""
        if self._refused:
            raise UnsafeRedis(self._refused)

    def _ask_until_answered(self) -> None:
        pause = threading.Event()
        while not self._ask():
            self._asked_once.set()
            pause.wait(RETRY_INTERVAL)
        late = self._started
        self._asked_once.set()
        if self._refused and late:
            log.critical("redis_refused", why=self._refused)
            os.kill(os.getpid(), signal.SIGTERM)

    def _ask(self) -> bool:
        """Return whether it answered."""
        try:
            describe_server(self._url, allow_eviction=self._allow_eviction)
        except UnsafeRedis as error:
            self._refused = str(error)
        except (RedisError, OSError) as error:
            if not self._warned:
                log.warning("redis_not_checked", error=str(error))
            self._warned = True
            return False
        return True
