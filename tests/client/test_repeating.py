"""Requests are repeated where that is safe."""

import json
from datetime import timedelta

import httpx
import pytest

from milepost_client import Client, JobNotFound, PartlySubmitted, Refused, StillRunning, Submission, Unavailable
from milepost_client.testing import FakeGateway
from milepost_contracts.http.problems import MEDIA_TYPE, Problem, ProblemType

RESPONSE_LOST = "response lost"
"""The request takes effect, and its response does not arrive."""


class UnreliableGateway(FakeGateway):
    """Fails each request as the next entry of its script says, before or after the request has taken effect."""

    def __init__(self, *script):
        super().__init__()
        self.script = list(script)
        self.requested_paths = []
        self.handle("noop", lambda params: None)

    def handle_request(self, request):
        self.requested_paths.append(request.url.path)
        failure = self.script.pop(0) if self.script else None
        if failure == RESPONSE_LOST:
            super().handle_request(request)
            raise httpx.ReadError("the connection broke")
        if isinstance(failure, Exception):
            raise failure
        return failure or super().handle_request(request)


def problem(kind):
    body = Problem.of(kind, "because").model_dump_json()
    return httpx.Response(kind.status, content=body, headers={"Content-Type": MEDIA_TYPE, "Retry-After": "0"})


def client_of(gateway, retry_timeout=5.0):
    return Client("http://x.test", http=httpx.Client(transport=gateway), retry_timeout=timedelta(seconds=retry_timeout))


@pytest.mark.parametrize(
    "failure",
    [
        RESPONSE_LOST,
        httpx.ConnectError("refused"),
        problem(ProblemType.NOT_ACCEPTED),
        problem(ProblemType.OUTCOME_UNKNOWN),
        problem(ProblemType.KEY_IN_FLIGHT),
        problem(ProblemType.TOO_MANY_JOBS),
    ],
)
def test_a_repeated_submission_is_one_job(failure):
    """The idempotency key identifies it."""
    gateway = UnreliableGateway(failure)
    with client_of(gateway) as client:
        handle = client.submit("noop")
    assert (2, [handle.id]) == (len(gateway.requested_paths), list(gateway.jobs))


def test_a_repeated_submission_sends_its_files_from_their_beginning(tmp_path):
    """The first attempt has read them already."""
    from milepost_client import find_files  # noqa: PLC0415 - only this test uses it

    (tmp_path / "a.txt").write_bytes(b"all of it")
    gateway = UnreliableGateway(RESPONSE_LOST, RESPONSE_LOST)
    with client_of(gateway) as client:
        client.submit("noop", files=find_files([tmp_path]))
    assert [{"a.txt": b"all of it"}] == [job.files for job in gateway.jobs.values()]


def test_a_retry_of_a_job_is_not_repeated():
    """If its response is lost, a second request could start another run."""
    gateway = UnreliableGateway(None, None, RESPONSE_LOST)
    with client_of(gateway) as client:
        handle = client.submit("noop")
        handle.wait()
        before = len(gateway.requested_paths)
        gateway.script = [RESPONSE_LOST]
        with pytest.raises(Unavailable):
            handle.retry()
    assert before + 1 == len(gateway.requested_paths)


def test_a_refused_request_is_not_repeated():
    """It would be refused again."""
    gateway = UnreliableGateway()
    with client_of(gateway) as client, pytest.raises(Refused):
        client.submit("nothing-of-the-kind")
    assert 1 == len(gateway.requested_paths)


def test_retries_end_after_the_retry_timeout():
    """A retry that would start after it is not sent."""
    gateway = UnreliableGateway(*[httpx.ConnectError("refused")] * 100)
    with client_of(gateway, retry_timeout=0) as client, pytest.raises(Unavailable):
        client.types()
    assert 1 == len(gateway.requested_paths)


def test_submit_many_sends_batches_of_a_thousand():
    """All jobs are in one group."""
    gateway = UnreliableGateway()
    with client_of(gateway) as client:
        group = client.submit_many(Submission(type="noop") for _ in range(2_001))
        assert 2_001 == group.refresh().size
    assert ["/v1/jobs:batch"] * 3 == gateway.requested_paths[:3]


def test_a_failed_batch_raises_with_the_jobs_submitted_so_far():
    """The exception has the group of the accepted jobs."""
    gateway = UnreliableGateway(None, problem(ProblemType.FORBIDDEN))
    with client_of(gateway) as client:
        with pytest.raises(PartlySubmitted) as caught:
            client.submit_many(Submission(type="noop") for _ in range(1_500))
        assert 1_000 == caught.value.group.refresh().size


def test_jobs_of_a_batch_that_the_broker_did_not_accept_are_submitted_again():
    """The same request is sent again, with the same idempotency key."""
    refused = json.loads(Problem.of(ProblemType.NOT_ACCEPTED, "because").model_dump_json())
    gateway = UnreliableGateway(httpx.Response(207, json={"id": "b", "items": [{"status": 503, "problem": refused}]}))
    with client_of(gateway) as client:
        assert () == client.submit_many([Submission(type="noop")]).refused
    assert 2 == len(gateway.requested_paths)


def test_an_error_of_the_caller_raises_with_the_jobs_submitted_so_far():
    """The iterator of submissions may raise, or yield params that have no JSON form."""

    def failing_source(mistake):
        yield from (Submission(type="noop") for _ in range(1_001))
        if isinstance(mistake, Exception):
            raise mistake
        yield Submission(type="noop", params={"x": mistake})

    for mistake in (RuntimeError("the cursor is gone"), object(), float("nan")):
        with client_of(UnreliableGateway()) as client:
            with pytest.raises(PartlySubmitted) as caught:
                client.submit_many(failing_source(mistake))
            assert 1_000 == caught.value.group.refresh().size


def test_deleted_jobs_of_a_group_are_not_waited_for():
    """They are counted as deleted."""
    gateway = UnreliableGateway()
    with client_of(gateway) as client:
        group = client.submit_many([Submission(type="noop")] * 3)
        assert 3 == group.wait().ended
        client.delete(group.job_ids[0])
        status = group.wait(timeout=5)
    assert (3, 2, 1, True) == (status.size, status.ended, status.deleted, status.done)


def test_a_response_that_is_not_from_a_gateway_is_not_retried():
    """An HTML page with 404 or 200 would be the same again."""
    for response in (httpx.Response(404, text="<html>"), httpx.Response(200, html="<html>")):
        gateway = UnreliableGateway(response)
        with client_of(gateway) as client, pytest.raises(Unavailable, match="not from a Milepost gateway"):
            client.types()
        assert 1 == len(gateway.requested_paths)


def test_a_wait_limits_the_read_timeout_of_its_requests():
    """A gateway that accepts the request and does not answer cannot delay the caller beyond the timeout."""
    gateway = UnreliableGateway()
    gateway.handle("endless", None)
    read_timeouts = []

    def hang(request):
        if request.method == "GET":
            read_timeouts.append(request.extensions["timeout"]["read"])
            raise httpx.ReadTimeout("nothing came")
        return gateway.handle_request(request)

    with Client("http://x.test", http=httpx.Client(transport=httpx.MockTransport(hang))) as client:
        handle = client.submit("endless")
        with pytest.raises(StillRunning):
            handle.wait(timeout=0.3)
    assert all(seconds <= 0.8 for seconds in read_timeouts)


@pytest.mark.parametrize("key", ["mp_secret\nx", "mp_sécret", "mp_secret\x00"])
def test_an_invalid_api_key_is_reported_without_its_value(key):
    """The error may be written to a log. A newline at the end of the key is accepted, as of a file."""
    with pytest.raises(ValueError, match="other than printable ASCII") as caught:
        Client("http://x.test", api_key=key)
    assert "secret" not in str(caught.value)
    Client("http://x.test", api_key="mp_secret\n").close()


@pytest.mark.parametrize("url", ["x.test", "http://", "http://[::1", "ftp://x.test"])
def test_an_invalid_url_is_refused_when_the_client_is_created(url):
    """No request is sent."""
    with pytest.raises(ValueError, match="not a gateway URL"):
        Client(url)


def test_a_job_id_cannot_lead_to_another_path():
    """A caller may pass an id that a user has typed."""
    gateway = UnreliableGateway()
    with client_of(gateway) as client, pytest.raises(JobNotFound):
        client.job("../queues")
    assert ["/v1/jobs/../queues"] == gateway.requested_paths


def test_two_handles_of_a_job_are_both_updated():
    """A watch of both yields both."""
    with client_of(UnreliableGateway()) as client:
        first = client.submit("noop")
        second = client.job(first.id)
        changed = list(client.watch(first, second))
    assert {id(first), id(second)} == {id(handle) for handle in changed}
    assert "succeeded" == first.document.status == second.document.status
