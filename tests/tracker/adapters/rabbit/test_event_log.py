"""Reading the log up to a mark, page by page."""

import asyncio
from dataclasses import dataclass, field
from itertools import count

import pytest

from milepost_tracker.adapters.rabbit import event_log
from milepost_tracker.errors import EventLogUnavailable

OWN, ANOTHER = event_log.MARK + b"own", event_log.MARK + b"another"


@dataclass
class FakeMessage:
    body: bytes
    offset: int
    acks: list = field(default_factory=list)
    routing_key = user_id = correlation_id = content_type = None

    @property
    def headers(self):
        return {"x-stream-offset": self.offset}

    async def ack(self, *, multiple):
        self.acks.append((self.offset, multiple))


async def pages(*bodies, begin=0, offsets=None):
    """Read a log of these messages up to the reader's own mark."""
    arrived = asyncio.Queue()
    for offset, body in zip(offsets or count(begin), bodies, strict=False):
        arrived.put_nowait(FakeMessage(body, offset))
    return [page async for page in event_log._until(arrived, OWN, begin)]


def bodies(page):
    return [message.body for message in page.messages]


async def test_the_log_is_read_up_to_the_readers_own_mark():
    """Another reader's mark is no end: there are events behind it. Marks are not returned."""
    (page,) = await pages(b"1", ANOTHER, b"2", OWN, b"3", begin=7)
    assert ([b"1", b"2"], 11) == (bodies(page), page.end)


async def test_a_page_is_limited_in_messages_and_in_bytes(monkeypatch):
    """A page of large messages must not fill the memory; there is always a last page."""
    monkeypatch.setattr(event_log, "PAGE_SIZE", 3)
    monkeypatch.setattr(event_log, "PAGE_BYTES", 100)
    read = await pages(*[b"x"] * 3, b"y" * 99, b"z", b"w" * 500, OWN)
    assert [[1, 1, 1], [99, 1], [500], []] == [[len(body) for body in bodies(page)] for page in read]
    assert [3, 5, 6, 7] == [page.end for page in read]


async def test_a_page_of_the_largest_messages_fits_into_memory():
    """The pages of a replay, and what is prefetched meanwhile."""
    body = b"x" * 256 * 1024
    read = await pages(*[body] * 200, OWN)
    assert 200 == sum(len(page.messages) for page in read)
    assert max(sum(map(len, bodies(page))) for page in read) <= event_log.PAGE_BYTES + len(body)
    assert event_log.PREFETCH * len(body) <= 128 * 1024 * 1024


async def test_a_log_that_begins_anew_is_not_read_from_an_old_offset():
    """It would be read from somewhere in between."""
    with pytest.raises(EventLogUnavailable):
        await pages(b"1", OWN, begin=7, offsets=[0, 1])


async def test_a_silent_replica_is_no_end_of_the_log(monkeypatch):
    """The mark has not arrived, so there is more."""
    monkeypatch.setattr(event_log, "SILENCE_LIMIT", 0.01)
    with pytest.raises(TimeoutError):
        await pages(b"1", b"2")
