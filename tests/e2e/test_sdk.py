"""The SDK through a whole stack."""

import asyncio
from uuid import uuid4

import pytest
from sdk_suite import SdkSuite

from milepost_client import AsyncClient, Submission


@pytest.fixture
def tag():
    return uuid4().hex


@pytest.fixture
def endless():
    return "count", {"steps": 100_000, "delay": 0.05}


@pytest.fixture
def failing():
    return "digest-files", {}


class TestWholeStack(SdkSuite):
    pass


async def test_an_asynchronous_client_does_the_same(url):
    """With `await` and `async for`; many at once."""
    async with AsyncClient(url) as client:
        handles = await asyncio.gather(*(client.submit("count", {"steps": n, "delay": 0.01}) for n in range(5)))
        assert [{"counted": n} for n in range(5)] == await asyncio.gather(*(handle.result() for handle in handles))
        last = [one async for one in (await client.submit("count", {"steps": 2})).watch()][-1]
        assert {"counted": 2} == last.result
        group = await client.submit_many([Submission(type="noop")] * 3)
        assert (await group.wait(timeout=30)).done
