"""The in-memory gateway for users' own tests."""

import httpx
import pytest
from sdk_suite import SdkSuite

from milepost_client import JobFailed, LocalFile, Unavailable
from milepost_client.testing import FakeGateway


def count(params, report):
    for done in range(params["steps"]):
        report(done + 1, params["steps"])
    return {"counted": params["steps"]}


def fail(params):
    raise ValueError("it broke")


@pytest.fixture
def fake():
    made = FakeGateway()
    made.handle("count", count)
    made.handle("fail", fail)
    made.handle("endless", None)
    return made


@pytest.fixture
def tag():
    return "mine"


@pytest.fixture
def endless():
    return "endless", {}


@pytest.fixture
def failing():
    return "fail", {}


class TestFakeGateway(SdkSuite):
    @pytest.fixture
    def client(self, fake):
        with fake.client() as made:
            yield made


async def test_the_fake_gateway_has_an_asynchronous_client(fake):
    """It is used with `await` and `async for`."""
    async with fake.async_client() as client:
        handle = await client.submit("count", {"steps": 2})
        assert [0, 0, 1, 2, 2] == [one.progress.done if one.progress else 0 async for one in handle.watch()]
        assert {"counted": 2} == await handle.result()
        with pytest.raises(JobFailed, match="it broke"):
            await (await client.submit("fail")).result()


def test_submissions_can_be_inspected(fake, tmp_path):
    """Params, tags and files are what a test of a submitting program asserts."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"\r\none\r\n")
    with fake.client() as client:
        client.submit("count", {"steps": 1}, tags=["nightly"], files=[LocalFile(path, "sub/a.txt")])
    (job,) = fake.jobs.values()
    assert ({"steps": 1}, ["nightly"]) == (job.submission["params"], job.submission["tags"])
    assert {"sub/a.txt": b"\r\none\r\n"} == job.files


def test_an_outage_can_be_simulated(fake):
    """A test can check how its program handles an outage."""
    fake.available = False
    with fake.client() as client, pytest.raises(Unavailable):
        client.submit("count", {"steps": 1})
    fake.available = True
    with fake.client() as client:
        assert {"counted": 1} == client.submit("count", {"steps": 1}).result()


def test_a_watch_is_one_stream_request(fake):
    """A watch sends a request for the stream and one for the document at the end, however many events there are."""
    requests = []

    def record(request):
        requests.append((request.method, request.url.path))
        return fake.handle_request(request)

    from milepost_client import Client  # noqa: PLC0415 - only this test uses it

    with Client("http://gateway.test", http=httpx.Client(transport=httpx.MockTransport(record))) as client:
        handle = client.submit("count", {"steps": 100})
        assert 103 == len(list(handle.watch()))
    assert [("POST", "/v1/jobs"), ("GET", "/v1/events"), ("GET", f"/v1/jobs/{handle.id}")] == requests
