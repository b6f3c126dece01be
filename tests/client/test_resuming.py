"""A watch whose stream breaks goes on where it was."""

from datetime import timedelta

import httpx
import pytest

from milepost_client import AsyncClient, Client, JobNotFound, Unavailable
from milepost_client.testing import FakeGateway


class Breaking(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Tells so many events of a stream, then breaks."""

    def __init__(self, content, events):
        self.pieces = [piece + b"\n\n" for piece in content.split(b"\n\n")[:events]]

    def __iter__(self):
        yield from self.pieces
        raise httpx.ReadError("the connection broke")

    async def __aiter__(self):
        for piece in self:
            yield piece


class Unsteady(FakeGateway):
    """Breaks streams off after some events, as its script says; whole at the end of the script."""

    def __init__(self, *script):
        super().__init__()
        self.script = list(script)
        self.resumed = []
        self.handle("count", lambda params, report: [report(n, 4) for n in range(1, 5)] and 4)

    def _events(self, request):
        self.resumed.append(request.headers.get("last-event-id"))
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        if isinstance(step, httpx.Response):
            return step
        whole = super()._events(request)
        if step is None or whole.status_code == 204:
            return whole
        return httpx.Response(200, stream=Breaking(whole.content, step), headers=whole.headers)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """A broken stream is opened again after a second; a test does not wait for it."""
    for module in ("_sync", "_async"):
        monkeypatch.setattr(f"milepost_client.{module}.watching.AGAIN", 0.0)
    monkeypatch.setattr("milepost_client.errors.RETRY_AFTER", 0.0)


def client_of(gateway):
    return Client("http://x.test", http=httpx.Client(transport=gateway), patience=timedelta(0))


def test_a_stream_that_breaks_is_resumed_behind_its_last_event():
    """Nothing is told twice, nothing is missed."""
    gateway = Unsteady(2, 1, 3)
    with client_of(gateway) as client:
        documents = list(client.submit("count", {}).watch())
    assert ["1", "3", "4"] == gateway.resumed
    versions = [document.version for document in documents]
    assert [1, 2, 3, 4, 5, 6, 7] == versions
    assert "succeeded" == documents[-1].status


async def test_an_asynchronous_stream_is_resumed_too():
    """It is the same code."""
    gateway = Unsteady(2, 1, 3)
    async with AsyncClient("http://x.test", http=httpx.AsyncClient(transport=gateway)) as client:
        handle = await client.submit("count", {})
        assert [1, 2, 3, 4, 5, 6, 7] == [document.version async for document in handle.watch()]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadTimeout("nothing came"),
        httpx.Response(200, text="<html>", headers={"content-type": "text/html"}),
        httpx.Response(502, text="<html>"),
    ],
)
def test_where_nobody_tells_events_the_gateway_is_asked_again_and_again(answer):
    """A proxy that holds streams back, or that knows none."""
    gateway = Unsteady(answer)
    with client_of(gateway) as client:
        documents = list(client.submit("count", {}).watch())
    assert ["1"] == gateway.resumed
    assert [1, 2, 3, 4, 5, 6, 7] == [document.version for document in documents]


def test_a_gateway_that_stays_away_is_told(monkeypatch):
    """After half a minute; here at once."""
    monkeypatch.setattr("milepost_client._sync.watching.PATIENCE", -1.0)
    gateway = Unsteady(2, httpx.ConnectError("refused"), httpx.ConnectError("refused"))
    with client_of(gateway) as client, pytest.raises(Unavailable):
        list(client.submit("count", {}).watch())


def test_a_job_that_is_deleted_meanwhile_is_told():
    """There is no end to wait for."""
    gateway = Unsteady(2)
    with client_of(gateway) as client:
        seen = client.submit("count", {}).watch()
        next(seen)
        gateway.jobs.clear()
        with pytest.raises(JobNotFound):
            next(seen)
