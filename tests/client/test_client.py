"""The SDK, against canned answers."""

from datetime import timedelta

import httpx
import pytest

from milepost_client import Client, JobFailed, JobNotFound, Refused, StillRunning, Unavailable, find_files
from milepost_contracts.problems import MEDIA_TYPE, Problem, ProblemType


def test_a_job_is_handed_over_and_followed_to_its_end(client, gateway):
    """Every change once, each look with the ETag of the last."""
    handle = client.submit("digest-files", {"paths": []})
    assert ["queued", "running", "succeeded"] == [document.status for document in handle.watch()]
    assert {"files": 1} == handle.result()
    looks = [request for request in gateway.requests if request.url.path != "/v1/events"]
    assert [None, '"0"', '"1"'] == [request.headers.get("if-none-match") for request in looks]


def test_what_did_not_change_is_not_shown_again(client, gateway):
    """A 304 costs no body and yields nothing."""
    gateway.script = ["queued", httpx.Response(304, headers={"Retry-After": "0"}), "succeeded"]
    assert ["queued", "succeeded"] == [document.status for document in client.submit("x").watch()]


def test_a_gateway_that_is_away_for_a_moment_is_borne(client, gateway, problem):
    """A restart in the middle of a watch shows nothing but a pause."""
    gateway.script = ["queued", problem(503), problem(503), "succeeded"]
    assert "succeeded" == client.submit("x").wait().status


def test_a_gateway_that_stays_away_is_told(client, gateway, problem, monkeypatch):
    """In the end, patience ends."""
    monkeypatch.setattr("milepost_client._sync.watching.PATIENCE", 0.0)
    gateway.script = ["queued", problem(503)]
    with pytest.raises(Unavailable):
        client.submit("x").wait()


def test_a_wait_can_end_before_the_job(client, gateway):
    """The job goes on; that is not an error of the job."""
    gateway.script = ["queued"] * 1000
    with pytest.raises(StillRunning):
        client.submit("x").wait(timeout=0.05)


def test_a_failed_job_raises_only_when_its_result_is_asked_for(client, gateway):
    """`wait` reports, `result` insists."""
    gateway.script = ["queued", "failed"]
    handle = client.submit("x")
    assert "failed" == handle.wait().status
    with pytest.raises(JobFailed, match="it broke"):
        handle.result()


@pytest.mark.parametrize("status, error", [(404, JobNotFound), (410, JobNotFound), (422, Refused), (503, Unavailable)])
def test_a_problem_becomes_the_error_it_means(client, gateway, problem, status, error):
    """With its words."""
    gateway.script = [problem(status, title="Oh no")]
    with pytest.raises(error, match=r"Oh no: Because\."):
        client.job("x")


def test_the_places_of_a_problem_are_in_the_message(client, gateway, problem):
    """Whoever reads the traceback needs no debugger."""
    gateway.script = [problem(422, errors=[{"pointer": "/params/steps", "detail": "is not an integer"}])]
    with pytest.raises(Refused, match="/params/steps: is not an integer"):
        client.submit("x")


def test_something_else_at_that_address_is_told():
    """A proxy's error page is no problem document."""
    transport = httpx.MockTransport(lambda _: httpx.Response(502, text="<html>"))
    with (
        Client("http://x.test", http=httpx.Client(transport=transport), patience=timedelta(0)) as client,
        pytest.raises(Unavailable, match="502"),
    ):
        client.types()


def test_nobody_at_that_address_is_told():
    """With the address."""

    def refuse(request):
        raise httpx.ConnectError("refused")

    transport = httpx.MockTransport(refuse)
    with (
        Client("http://x.test", http=httpx.Client(transport=transport), patience=timedelta(0)) as client,
        pytest.raises(Unavailable, match=r"x\.test"),
    ):
        client.types()


def test_files_are_sent_as_a_form_and_read_late(client, gateway, tmp_path):
    """A thousand files need no thousand file handles; names are relative paths."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_bytes(b"aaa")
    (tmp_path / "b.txt").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"no")
    files = find_files([tmp_path])
    assert ["b.txt", "sub/a.txt"] == [file.name for file in files]
    client.submit("digest-files", files=files)
    body = gateway.requests[0].read()
    assert gateway.requests[0].headers["content-type"].startswith("multipart/form-data")
    assert b'name="job"' in body
    assert b'filename="sub/a.txt"' in body
    assert b"aaa" in body


def test_a_file_that_is_not_there_is_told_before_anything_is_sent(client, gateway, tmp_path):
    """With its path."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_files([tmp_path / "nowhere"])
    assert [] == gateway.requests


def test_a_client_says_who_asks(gateway, monkeypatch):
    """With the key that it is given, or with that of its environment."""
    transport = httpx.MockTransport(gateway)
    monkeypatch.setenv("MILEPOST_API_KEY", "mp_environment")
    for given, sent in (({"api_key": "mp_given"}, "Bearer mp_given"), ({}, "Bearer mp_environment")):
        with Client("http://gateway.test", http=httpx.Client(transport=transport), **given) as client:
            client.types()
        assert sent == gateway.requests[-1].headers["authorization"]


def test_a_limit_is_something_to_come_back_from(client, gateway):
    """429 is no mistake of the request."""
    problem = Problem.of(ProblemType.TOO_MANY_JOBS, "two are the most").model_dump_json()
    headers = {"content-type": MEDIA_TYPE, "retry-after": "7"}
    gateway.script = [httpx.Response(429, content=problem, headers=headers)]
    with pytest.raises(Unavailable) as caught:
        client.submit("digest-files")
    assert 7 == caught.value.retry_after
