"""The job types that a gateway knows: it keeps them in memory, for the time when Redis is down."""

import asyncio

import pytest
from gateway_fakes.params_validator import FakeParamsValidator
from samples import COUNT, HEARTBEAT

from milepost_gateway.core.job_types import KnownTypes
from milepost_gateway.errors import StoreUnavailable


class FakeStore:
    """A worker store in which one processor serves the type `count`."""

    is_away = False

    async def job_types(self):
        if self.is_away:
            raise StoreUnavailable("away")
        return [COUNT]

    async def processors(self):
        return [HEARTBEAT]


async def test_the_types_of_a_processor_that_was_seen_are_known_from_then_on():
    """A job of them is accepted although Redis went down before the next refresh."""
    store = FakeStore()
    known = KnownTypes(store, FakeParamsValidator())
    store.is_away = True
    with pytest.raises(StoreUnavailable):
        await known.find("count")
    store.is_away = False
    await known.processors()
    store.is_away = True
    assert COUNT == (await known.find("count")).announced


async def test_a_new_type_is_prepared_once_for_all_that_ask_at_the_same_time():
    """It takes long for a large schema, and every request with an unknown name reads the types."""
    known = KnownTypes(FakeStore(), FakeParamsValidator())
    found = await asyncio.gather(*(known.find("count") for _ in range(5)))
    assert 1 == len({id(one) for one in found})
