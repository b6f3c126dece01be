"""Requests are repeated where that does no harm."""

import json
from datetime import timedelta

import httpx
import pytest

from milepost_client import Client, JobNotFound, PartlyHandedOver, Refused, StillRunning, Submission, Unavailable
from milepost_client.testing import FakeGateway
from milepost_contracts.problems import MEDIA_TYPE, Problem, ProblemType


class Troubled(FakeGateway):
    """Meets each request with the next trouble of its script, before or after it has done what was asked."""

    def __init__(self, *script):
        super().__init__()
        self.script = list(script)
        self.asked = []
        self.handle("noop", lambda params: None)

    def handle_request(self, request):
        self.asked.append(request.url.path)
        trouble = self.script.pop(0) if self.script else None
        if trouble == "done, and not told":
            super().handle_request(request)
            raise httpx.ReadError("the connection broke")
        if isinstance(trouble, Exception):
            raise trouble
        return trouble or super().handle_request(request)


def problem(kind):
    body = Problem.of(kind, "because").model_dump_json()
    return httpx.Response(kind.status, content=body, headers={"Content-Type": MEDIA_TYPE, "Retry-After": "0"})


def client_of(gateway, patience=5.0):
    return Client("http://x.test", http=httpx.Client(transport=gateway), patience=timedelta(seconds=patience))


@pytest.mark.parametrize(
    "trouble",
    [
        "done, and not told",
        httpx.ConnectError("refused"),
        problem(ProblemType.NOT_ACCEPTED),
        problem(ProblemType.OUTCOME_UNKNOWN),
        problem(ProblemType.KEY_IN_FLIGHT),
        problem(ProblemType.TOO_MANY_JOBS),
    ],
)
def test_a_submission_that_was_not_answered_is_repeated_and_is_one_job(trouble):
    """Its key names it."""
    gateway = Troubled(trouble)
    with client_of(gateway) as client:
        handle = client.submit("noop")
    assert (2, [handle.id]) == (len(gateway.asked), list(gateway.jobs))


def test_a_file_is_sent_anew_each_time(tmp_path):
    """From its beginning, however much of it was read."""
    from milepost_client import find_files  # noqa: PLC0415 - beside what it is about

    (tmp_path / "a.txt").write_bytes(b"all of it")
    gateway = Troubled("done, and not told", "done, and not told")
    with client_of(gateway) as client:
        client.submit("noop", files=find_files([tmp_path]))
    assert [{"a.txt": b"all of it"}] == [job.files for job in gateway.jobs.values()]


def test_what_does_harm_twice_is_asked_once():
    """A run of a job that has ended is no run of one that goes on."""
    gateway = Troubled(None, None, "done, and not told")
    with client_of(gateway) as client:
        handle = client.submit("noop")
        handle.wait()
        asked = len(gateway.asked)
        gateway.script = ["done, and not told"]
        with pytest.raises(Unavailable):
            handle.retry()
    assert asked + 1 == len(gateway.asked)


def test_a_refusal_is_not_repeated():
    """It would be one again."""
    gateway = Troubled()
    with client_of(gateway) as client, pytest.raises(Refused):
        client.submit("nothing-of-the-kind")
    assert 1 == len(gateway.asked)


def test_patience_has_an_end():
    """Nothing is asked again that could only be answered after it."""
    gateway = Troubled(*[httpx.ConnectError("refused")] * 100)
    with client_of(gateway, patience=0) as client, pytest.raises(Unavailable):
        client.types()
    assert 1 == len(gateway.asked)


def test_many_are_handed_over_in_requests_of_a_thousand():
    """One group has them all."""
    gateway = Troubled()
    with client_of(gateway) as client:
        group = client.submit_many(Submission(type="noop") for _ in range(2_001))
        assert 2_001 == group.refresh().size
    assert ["/v1/jobs:batch"] * 3 == gateway.asked[:3]


def test_of_many_those_that_were_handed_over_are_not_lost_to_the_caller():
    """When a later request goes wrong."""
    gateway = Troubled(None, problem(ProblemType.FORBIDDEN))
    with client_of(gateway) as client:
        with pytest.raises(PartlyHandedOver) as caught:
            client.submit_many(Submission(type="noop") for _ in range(1_500))
        assert 1_000 == caught.value.group.refresh().size


def test_jobs_of_a_batch_that_the_broker_did_not_take_are_handed_over_again():
    """The same request, with the same key."""
    refused = json.loads(Problem.of(ProblemType.NOT_ACCEPTED, "because").model_dump_json())
    gateway = Troubled(httpx.Response(207, json={"id": "b", "items": [{"status": 503, "problem": refused}]}))
    with client_of(gateway) as client:
        assert () == client.submit_many([Submission(type="noop")]).refused
    assert 2 == len(gateway.asked)


def test_of_many_a_mistake_of_the_caller_loses_nothing_either():
    """What makes the submissions may break in the middle, or make one that has no JSON form."""

    def broken(mistake):
        yield from (Submission(type="noop") for _ in range(1_001))
        if isinstance(mistake, Exception):
            raise mistake
        yield Submission(type="noop", params={"x": mistake})

    for mistake in (RuntimeError("the cursor is gone"), object(), float("nan")):
        with client_of(Troubled()) as client:
            with pytest.raises(PartlyHandedOver) as caught:
                client.submit_many(broken(mistake))
            assert 1_000 == caught.value.group.refresh().size


def test_jobs_of_a_group_that_are_forgotten_are_not_waited_for():
    """Nothing will ever be told of them."""
    gateway = Troubled()
    with client_of(gateway) as client:
        group = client.submit_many([Submission(type="noop")] * 3)
        assert 3 == group.wait().ended
        client.forget(group.job_ids[0])
        status = group.wait(timeout=5)
    assert (3, 2, 1, True) == (status.size, status.ended, status.forgotten, status.done)


def test_an_answer_of_somebody_else_is_not_asked_for_again():
    """A page that says 404, or that all is well, is no gateway's; it would be the same."""
    for answer in (httpx.Response(404, text="<html>"), httpx.Response(200, html="<html>")):
        gateway = Troubled(answer)
        with client_of(gateway) as client, pytest.raises(Unavailable, match="not as a Milepost gateway does"):
            client.types()
        assert 1 == len(gateway.asked)


def test_a_wait_asks_for_no_longer_than_it_has_time():
    """A gateway that takes the question and does not answer keeps nobody beyond the time."""
    gateway = Troubled()
    gateway.handle("endless", None)
    allowed = []

    def hang(request):
        if request.method == "GET":
            allowed.append(request.extensions["timeout"]["read"])
            raise httpx.ReadTimeout("nothing came")
        return gateway.handle_request(request)

    with Client("http://x.test", http=httpx.Client(transport=httpx.MockTransport(hang))) as client:
        handle = client.submit("endless")
        with pytest.raises(StillRunning):
            handle.wait(timeout=0.3)
    assert all(read <= 0.8 for read in allowed)


@pytest.mark.parametrize("key", ["mp_secret\nx", "mp_sécret", "mp_secret\x00"])
def test_a_key_that_is_none_is_told_without_its_value(key):
    """It would stand in a log otherwise. What a file's last line adds is not meant."""
    with pytest.raises(ValueError, match="visible ASCII characters alone") as caught:
        Client("http://x.test", api_key=key)
    assert "secret" not in str(caught.value)
    Client("http://x.test", api_key="mp_secret\n").close()


@pytest.mark.parametrize("url", ["x.test", "http://", "http://[::1", "ftp://x.test"])
def test_a_url_that_is_none_is_told_at_once(url):
    """Before anything is asked."""
    with pytest.raises(ValueError, match="no URL of a gateway"):
        Client(url)


def test_an_id_leads_to_a_job_and_nowhere_else():
    """Whoever hands over what somebody typed."""
    gateway = Troubled()
    with client_of(gateway) as client, pytest.raises(JobNotFound):
        client.job("../queues")
    assert ["/v1/jobs/../queues"] == gateway.asked


def test_two_handles_of_a_job_are_both_told():
    """Whoever has them, has them."""
    with client_of(Troubled()) as client:
        first = client.submit("noop")
        second = client.job(first.id)
        changed = list(client.watch(first, second))
    assert {id(first), id(second)} == {id(handle) for handle in changed}
    assert "succeeded" == first.document.status == second.document.status
