"""Which Redis servers may be used."""

import threading
from contextlib import nullcontext

import pytest
from redis.exceptions import TimeoutError as RedisTimeout

from milepost_redis.server_check import ServerCheck, UnsafeRedis, describe_server, why_unsafe

MEMORY = {"redis_version": "7.0.15", "cluster_enabled": 0, "maxmemory": 0, "maxmemory_policy": "noeviction"}


@pytest.mark.parametrize(
    "info",
    [
        MEMORY,
        MEMORY | {"maxmemory": 1_000},
        MEMORY | {"maxmemory_policy": "allkeys-lru"},
        {},
    ],
)
def test_a_server_that_keeps_every_key_may_be_used(info):
    """Without a limit of its memory, it evicts nothing."""
    assert why_unsafe(info, allow_eviction=False) is None


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_a_server_that_evicts_keys_is_refused_unless_it_is_allowed(policy):
    """All of our keys have a time to live, so `volatile-…` evicts them, too."""
    info = MEMORY | {"maxmemory": 1_000, "maxmemory_policy": policy}
    found = why_unsafe(info, allow_eviction=False)
    assert found is not None
    assert found.startswith("MILEPOST_REDIS_URL: ")
    assert f"noeviction, not {policy}, or add evicting-redis to MILEPOST_ALLOW" in found
    assert why_unsafe(info, allow_eviction=True) is None


def test_a_node_of_a_cluster_is_refused():
    """Its other nodes have most of the keys."""
    found = why_unsafe(MEMORY | {"cluster_enabled": 1}, allow_eviction=True)
    assert found is not None
    assert "Redis Cluster" in found


@pytest.mark.parametrize("url, hinted", [("rediss://redis/0", True), ("redis://redis/0", False)])
def test_a_server_that_does_not_answer_may_lack_tls(monkeypatch, url, hinted):
    """A Redis without TLS waits for the end of what it takes for a command."""

    class Silent:
        from_url = classmethod(lambda cls, url, **options: nullcontext(cls()))

        def info(self):
            raise RedisTimeout("Timeout connecting to server")

    monkeypatch.setattr("milepost_redis.server_check.Redis", Silent)
    with pytest.raises(RedisTimeout, match="Timeout connecting to server") as caught:
        describe_server(url, allow_eviction=False)
    assert hinted == ("speak TLS" in str(caught.value))


@pytest.fixture
def answers(monkeypatch):
    """What the server answers, one after another."""
    given = []

    def describe(url, *, allow_eviction):
        del url, allow_eviction
        answer = given.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("milepost_redis.server_check.describe_server", describe)
    monkeypatch.setattr("milepost_redis.server_check.RETRY_INTERVAL", 0.01)
    return given


def test_a_refused_server_is_refused_at_start(answers):
    """Before anything is accepted."""
    answers.append(UnsafeRedis("it evicts"))
    check = ServerCheck("redis://redis", allow_eviction=False)
    with pytest.raises(UnsafeRedis, match="it evicts"):
        check.start()


def test_a_server_that_is_away_is_asked_until_it_answers(answers, monkeypatch):
    """The service starts meanwhile, and is stopped when the server turns out to be unusable."""
    stopped = threading.Event()
    signals = []

    def kill(pid, number):
        signals.append((pid, number))
        stopped.set()

    monkeypatch.setattr("milepost_redis.server_check.os.kill", kill)
    answers += [ConnectionError("away"), ConnectionError("away"), UnsafeRedis("it evicts")]
    check = ServerCheck("redis://redis", allow_eviction=False)
    check.start()
    assert stopped.wait(10)
    with pytest.raises(UnsafeRedis, match="it evicts"):
        check.raise_if_refused()
    assert 1 == len(signals)
