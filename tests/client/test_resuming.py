"""A watch resumes a broken stream after its last event."""

from datetime import timedelta

import httpx
import pytest

from milepost_client import AsyncClient, Client, JobNotFound, Unavailable
from milepost_client.testing import FakeGateway


class BreakingStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Yields the given number of events, then breaks."""

    def __init__(self, content, events):
        self.pieces = [piece + b"\n\n" for piece in content.split(b"\n\n")[:events]]

    def __iter__(self):
        yield from self.pieces
        raise httpx.ReadError("the connection broke")

    async def __aiter__(self):
        for piece in self:
            yield piece


class BreakingGateway(FakeGateway):
    """Breaks each stream after as many events as its script says; streams after the script are complete."""

    def __init__(self, *script):
        super().__init__()
        self.script = list(script)
        self.cursors = []
        self.handle("count", lambda params, report: [report(n, 4) for n in range(1, 5)] and 4)

    def _events(self, request):
        self.cursors.append(request.headers.get("last-event-id"))
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        if isinstance(step, httpx.Response):
            return step
        complete = super()._events(request)
        if step is None or complete.status_code == 204:
            return complete
        return httpx.Response(200, stream=BreakingStream(complete.content, step), headers=complete.headers)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    """Open a broken stream again at once instead of after a second."""
    for module in ("_sync", "_async"):
        monkeypatch.setattr(f"milepost_client.{module}.watching.STREAM_RETRY_INTERVAL", 0.0)
    monkeypatch.setattr("milepost_client.errors.DEFAULT_RETRY_AFTER", 0.0)


def client_of(gateway):
    return Client("http://x.test", http=httpx.Client(transport=gateway), retry_timeout=timedelta(0))


def test_a_broken_stream_is_resumed_after_its_last_event():
    """No change is yielded twice, and none is missed."""
    gateway = BreakingGateway(2, 1, 3)
    with client_of(gateway) as client:
        documents = list(client.submit("count", {}).watch())
    assert ["1", "3", "4"] == gateway.cursors
    versions = [document.version for document in documents]
    assert [1, 2, 3, 4, 5, 6, 7] == versions
    assert "succeeded" == documents[-1].status


async def test_an_asynchronous_stream_is_resumed_too():
    """The asynchronous client does the same."""
    gateway = BreakingGateway(2, 1, 3)
    async with AsyncClient("http://x.test", http=httpx.AsyncClient(transport=gateway)) as client:
        handle = await client.submit("count", {})
        assert [1, 2, 3, 4, 5, 6, 7] == [document.version async for document in handle.watch()]


@pytest.mark.parametrize(
    "response",
    [
        httpx.ReadTimeout("nothing came"),
        httpx.Response(200, text="<html>", headers={"content-type": "text/html"}),
        httpx.Response(502, text="<html>"),
    ],
)
def test_without_a_stream_the_client_polls(response):
    """A proxy may buffer streams or refuse them."""
    gateway = BreakingGateway(response)
    with client_of(gateway) as client:
        documents = list(client.submit("count", {}).watch())
    assert ["1"] == gateway.cursors
    assert [1, 2, 3, 4, 5, 6, 7] == [document.version for document in documents]


def test_a_long_outage_of_the_gateway_raises_unavailable(monkeypatch):
    """The timeout is half a minute; this test sets it to nothing."""
    monkeypatch.setattr("milepost_client._sync.watching.OUTAGE_TIMEOUT", -1.0)
    gateway = BreakingGateway(2, httpx.ConnectError("refused"), httpx.ConnectError("refused"))
    with client_of(gateway) as client, pytest.raises(Unavailable):
        list(client.submit("count", {}).watch())


def test_a_job_that_is_deleted_during_a_watch_raises_not_found():
    """It has no end to wait for."""
    gateway = BreakingGateway(2)
    with client_of(gateway) as client:
        changes = client.submit("count", {}).watch()
        next(changes)
        gateway.jobs.clear()
        with pytest.raises(JobNotFound):
            next(changes)
