"""The gate in a real Redis."""

from datetime import timedelta

import pytest
from gate_suite import GateSuite
from redis import Redis

from milepost_processor.errors import GateUnavailable
from milepost_processor.gate import RedisGate


@pytest.fixture
def gate(redis_url, keys):
    with Redis.from_url(redis_url) as redis:
        yield RedisGate(redis, keys, retention=timedelta(days=7))


class TestTheLuaScript(GateSuite):
    """Passes the very suite that the fake of the unit tests passes."""


def test_a_redis_that_is_away_gives_no_verdict(keys):
    """Rather than a wrong one."""
    with Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.5) as nobody:
        gate = RedisGate(nobody, keys, retention=timedelta(days=7))
        with pytest.raises(GateUnavailable):
            gate.claim(job_id="x", run=1, attempt=1, execution="aaaaaaaa", worker="w")
        with pytest.raises(GateUnavailable):
            gate.finish(job_id="x", run=1, attempt=1, absorbing=True)
