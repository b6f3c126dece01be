"""Concurrent reads share calls to Redis, and identical reads are made once."""

import asyncio

import pytest

from milepost_gateway.adapters.redis.batched_reads import BATCH_SIZE, MAX_CONCURRENT_CALLS, BatchedReads


class Redis:
    """Answers each batch with the number of its call, once `may_answer` is set."""

    def __init__(self):
        self.batches: list[list[str]] = []
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    async def read(self, keys):
        self.batches.append(list(keys))
        number = len(self.batches)
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return [number for _ in keys]


@pytest.fixture
async def redis():
    return Redis()


@pytest.fixture
async def reads(redis):
    return BatchedReads(redis.read)


async def all_tasks_wait():
    """Let every task run until it waits for something."""
    for _ in range(5):
        await asyncio.sleep(0)


def started(*reading):
    return [asyncio.create_task(one) for one in reading]


async def test_concurrent_reads_are_one_call_and_identical_ones_one_read(redis, reads):
    """A change of a job wakes all clients that wait for it, and they read the same."""
    reading = started(*(reads.get("same") for _ in range(100)), reads.get("other"))
    redis.may_answer.set()
    assert {1} == set(await asyncio.gather(*reading))
    assert [["same", "other"]] == redis.batches


async def test_a_read_never_joins_a_batch_that_was_sent(redis, reads):
    """Its answer may be older than the change that the caller was notified of."""
    (first,) = started(reads.get("same"))
    await all_tasks_wait()
    (second,) = started(reads.get("same"))
    await all_tasks_wait()
    redis.may_answer.set()
    assert (1, 2) == (await first, await second)


async def test_the_number_of_concurrent_calls_is_limited(redis, reads):
    """Reads that are requested meanwhile share the next call."""
    reading = []
    for number in range(MAX_CONCURRENT_CALLS + 3):
        reading += started(reads.get(str(number)))
        await all_tasks_wait()
    assert [["0"], ["1"]] == redis.batches
    redis.may_answer.set()
    await asyncio.gather(*reading)
    assert [["0"], ["1"], ["2", "3", "4"]] == redis.batches


async def test_the_size_of_a_batch_is_limited(redis, reads):
    """Redis can serve other clients between two calls."""
    redis.may_answer.set()
    await asyncio.gather(*started(*(reads.get(str(number)) for number in range(BATCH_SIZE + 1))))
    assert [BATCH_SIZE, 1] == [len(batch) for batch in redis.batches]


async def test_a_cancelled_caller_does_not_cancel_the_read_of_others(redis, reads):
    """A client may disconnect at any time."""
    first, second = started(reads.get("same"), reads.get("same"))
    await all_tasks_wait()
    first.cancel()
    redis.may_answer.set()
    assert 1 == await second


async def test_every_caller_gets_the_error_and_the_next_read_is_a_new_one(redis, reads):
    """Errors are not cached."""
    redis.error = OSError("away")
    redis.may_answer.set()
    reading = started(reads.get("same"), reads.get("other"))
    assert ["away", "away"] == [str(error) for error in await asyncio.gather(*reading, return_exceptions=True)]
    redis.error = None
    assert 2 == await reads.get("same")


async def test_an_error_of_one_key_affects_only_its_callers():
    """A shard that is not complete does not block the others."""

    async def read(keys):
        return [ValueError(key) if key == "bad" else key for key in keys]

    reads = BatchedReads(read)
    good, bad = await asyncio.gather(reads.get("good"), reads.get("bad"), return_exceptions=True)
    assert ("good", "bad") == (good, str(bad))
    assert isinstance(bad, ValueError)


async def test_a_reply_with_too_few_values_is_an_error_for_every_caller():
    """No caller waits for ever for a value that did not come."""

    async def read(keys):
        return list(keys)[1:]

    reads = BatchedReads(read)
    found = await asyncio.wait_for(asyncio.gather(*map(reads.get, "ab"), return_exceptions=True), 5)
    assert [ValueError, ValueError] == [type(error) for error in found]
