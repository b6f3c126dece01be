"""A change of a job wakes all of its readers, and they ask the same."""

import asyncio

import pytest

from milepost_gateway.redis_calls import AskedOnce


class Store:
    """Answers when it is told to; counts how often it was asked."""

    def __init__(self):
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.error = None

    async def tell(self):
        self.asked += 1
        number = self.asked
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return number


@pytest.fixture
def store():
    return Store()


async def settled():
    """Let everybody go on who can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_question_that_many_have_is_put_once(store):
    """Each has the answer; another question is put beside it."""
    asked = AskedOnce()
    asking = [asyncio.create_task(asked.ask("same", store.tell)) for _ in range(100)]
    other = asyncio.create_task(asked.ask("other", store.tell))
    store.may_answer.set()
    assert {1} == set(await asyncio.gather(*asking))
    assert (2, 2) == (await other, store.asked)


async def test_who_asks_while_an_answer_is_on_its_way_has_it_put_again(store):
    """They may have heard of a change that the answer does not know."""
    asked = AskedOnce()
    first = asyncio.create_task(asked.ask("same", store.tell))
    await settled()
    second = asyncio.create_task(asked.ask("same", store.tell))
    await settled()
    store.may_answer.set()
    assert (1, 2) == (await first, await second)


async def test_one_who_leaves_takes_the_answer_from_nobody(store):
    """Clients come and go."""
    asked = AskedOnce()
    first, second = (asyncio.create_task(asked.ask("same", store.tell)) for _ in range(2))
    await settled()
    first.cancel()
    store.may_answer.set()
    assert 1 == await second


async def test_an_error_is_everybodys_and_nobodys_if_all_have_left(store):
    """The next one asks anew."""
    asked, store.error = AskedOnce(), OSError("away")
    asking = [asyncio.create_task(asked.ask("same", store.tell)) for _ in range(2)]
    await settled()
    asking[0].cancel()
    store.may_answer.set()
    with pytest.raises(OSError, match="away"):
        await asking[1]
    store.error = None
    assert 2 == await asked.ask("same", store.tell)
