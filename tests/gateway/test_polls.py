"""What is asked for again and again is told out of memory, and nobody is told what is old."""

import asyncio
from collections import Counter, defaultdict

import pytest
from waiting import wait_until_async

from milepost_gateway import polls as polls_module
from milepost_gateway.errors import JobExpired, StoreUnavailable
from milepost_gateway.polls import OFTEN, Polls
from milepost_gateway.ports import Stored

JOB = {"type": "count", "params": {}}


class View:
    """A status view whose word of changes stays on its way until somebody asks for it, or it is let in."""

    def __init__(self):
        self.versions = {"a": 1, "b": 1}
        self.reads = Counter()
        self.error: Exception | None = None
        self.proofs = 0
        #: Set while reads may go on.
        self.reading = asyncio.Event()
        self.reading.set()
        self._tells = defaultdict(set)
        self._word: list[str] = []
        self.connection = asyncio.Event()
        self.connection.set()

    def change(self, job_id):
        self.versions[job_id] += 1
        self._word.append(job_id)

    def let_word_in(self):
        while self._word:
            job_id = self._word.pop(0)
            for tell in self._tells[job_id]:
                tell(job_id)

    def lose_connection(self):
        """All that is on its way goes with it; there is a new one at once."""
        self.connection.clear()
        self._word.clear()
        self.connection = asyncio.Event()
        self.connection.set()

    @property
    def attended(self):
        return {job_id for job_id, tells in self._tells.items() if tells}

    async def get(self, job_id):
        if self.error:
            raise self.error
        self.reads[job_id] += 1
        stored = Stored(self.versions[job_id], b"{}")
        await self.reading.wait()
        return stored

    def attend(self, job_id, tell):
        self._tells[job_id].add(tell)
        return self.connection

    def leave(self, job_id, tell):
        self._tells[job_id].discard(tell)

    async def all_heard(self):
        self.proofs += 1
        await asyncio.sleep(0)
        self.let_word_in()
        return self.connection.is_set()


@pytest.fixture
async def view():
    return View()


@pytest.fixture
async def polls(view, monkeypatch):
    """Polls whose turns last for as long as the test wants."""
    monkeypatch.setattr("milepost_gateway.polls.TURN", 60.0)
    return Polls(view, view)


@pytest.fixture
async def hot(polls):
    """Polls of which job a is remembered."""
    for _ in range(OFTEN):
        await polls.get("a")
    return polls


async def version(polls, job_id="a"):
    return (await polls.get(job_id)).version


async def begin_to_read(view, polls):
    """Ask for job a, which has changed: the answer, version 2, comes once reads may go on."""
    view.change("a")
    view.let_word_in()
    view.reading.clear()
    slow = asyncio.create_task(version(polls))
    await asyncio.sleep(0)
    return slow


async def test_what_is_asked_for_often_is_read_no_more(view, hot):
    """Of other jobs nothing is remembered by that."""
    before = view.reads["a"]
    assert {1} == {await version(hot) for _ in range(50)}
    assert before == view.reads["a"]
    await hot.get("b")
    await hot.get("b")
    assert 2 == view.reads["b"]


async def test_what_is_asked_for_now_and_then_is_read_each_time(view, polls):
    """Nobody listens for its changes: that would cost more than the reads."""
    for _ in range(3 * OFTEN):
        await polls.get("a")
        polls.turn()
    assert (3 * OFTEN, set()) == (view.reads["a"], view.attended)


async def test_a_change_whose_word_is_on_its_way_is_told(view, hot):
    """Another gateway may have told of it already."""
    view.change("a")
    assert 2 == await version(hot)


async def test_word_of_a_change_ends_what_is_remembered(view, hot):
    """And what is read next is remembered again."""
    view.change("a")
    view.let_word_in()
    assert 2 == await version(hot)
    reads = view.reads["a"]
    assert 2 == await version(hot)
    assert reads == view.reads["a"]


async def test_what_changed_while_it_was_read_is_not_remembered(view, hot):
    """The answer was true when it was asked for, and is not any more."""
    slow = await begin_to_read(view, hot)
    view.change("a")
    view.let_word_in()
    view.reading.set()
    assert 2 == await slow
    assert 3 == await version(hot)


async def test_with_the_subscription_goes_what_is_remembered(view, hot):
    """Word may be lost; and what is read while nobody hears is not remembered either."""
    view.change("a")
    view.lose_connection()
    assert 2 == await version(hot)
    view.change("a")
    assert 3 == await version(hot)


async def test_what_was_read_across_a_turn_is_not_remembered(view, hot):
    """It would be older than a turn before it is read anew."""
    slow = await begin_to_read(view, hot)
    hot.turn()
    view.versions["a"] = 3  # and no word
    view.reading.set()
    assert 2 == await slow
    assert 3 == await version(hot)


async def test_what_was_read_across_a_break_is_not_remembered(view, hot):
    """The change between was never heard of."""
    slow = await begin_to_read(view, hot)
    view.change("a")
    view.lose_connection()
    view.reading.set()
    assert 2 == await slow
    assert 3 == await version(hot)


async def test_a_new_subscription_is_listened_to_in_the_next_turn(view, hot):
    """A break costs reads, for a moment."""
    view.lose_connection()
    hot.turn()
    for _ in range(OFTEN + 1):
        await hot.get("a")
    reads = view.reads["a"]
    assert 1 == await version(hot)
    assert reads == view.reads["a"]


async def test_a_remembered_job_is_read_once_a_turn(view, hot):
    """Whatever goes wrong with the word, nothing older than that is told: nor that of a job which has expired."""
    reads = view.reads["a"]
    hot.turn()
    view.versions["a"] = 5  # and no word
    assert 5 == await version(hot)
    assert 5 == await version(hot)
    assert reads + 1 == view.reads["a"]


async def test_what_is_asked_for_no_more_is_forgotten(view, polls, monkeypatch):
    """And its changes are listened for no more: a turn is over soon, whether or not anybody asks."""
    monkeypatch.setattr(polls_module, "TURN", 0.05)
    for _ in range(OFTEN):
        await polls.get("a")
    assert {"a"} == view.attended

    async def left():
        return not view.attended

    await wait_until_async(left, within=5, what="nobody listens for its changes")


@pytest.mark.parametrize("error", [JobExpired(), StoreUnavailable("away")], ids=["expired", "away"])
async def test_an_error_is_told_and_not_remembered(view, hot, error):
    """As the store has it."""
    view.change("a")
    view.let_word_in()
    view.error = error
    with pytest.raises(type(error)):
        await hot.get("a")
    view.error = None
    assert 2 == await version(hot)


async def test_a_poll_that_is_repeated_tells_of_each_change(http, store, broker):
    """Through the route: 304 for as long as nothing changes, and the document once something has."""
    await http.post("/v1/jobs", json=JOB)
    command = broker.submitted[0]
    path, statuses = f"/v1/jobs/{command.job.id}", list[int]()
    for at in (7, 8, 9):
        store.project(command, version=at)
        tag = (await http.get(path)).headers["etag"]
        assert f'"{at}"' == tag
        statuses += [(await http.get(path, headers={"If-None-Match": tag})).status_code for _ in range(OFTEN)]
    assert {304} == set(statuses)
    assert store.attending[command.job.id]
