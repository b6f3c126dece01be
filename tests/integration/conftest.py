"""What tests of the status view work with: a tracker's store, and a gateway's reader of it."""

from datetime import timedelta

import pytest

from milepost_contracts.keys import SHARDS
from milepost_gateway.store import RedisStatusStore as Reader
from milepost_tracker.store import RedisStatusStore


@pytest.fixture
async def store(redis, keys):
    """A tracker's store, whole."""
    made = RedisStatusStore(redis, keys, retention=timedelta(days=7), live_for=timedelta(days=30))
    await made.watermarks.begin_replay(range(SHARDS))
    assert await made.watermarks.mark(range(SHARDS))
    return made


@pytest.fixture
def reader(redis, keys):
    return Reader(redis, keys)
