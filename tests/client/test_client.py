"""The SDK, against canned responses."""

from datetime import date, timedelta

import httpx
import pytest
from pydantic import BaseModel, Field, Secret, SecretBytes, SecretStr

from milepost_client import (
    Client,
    JobFailed,
    JobNotFound,
    Refused,
    StillRunning,
    Submission,
    Unavailable,
    find_files,
)
from milepost_contracts.http.problems import MEDIA_TYPE, Problem, ProblemType


def test_a_job_is_submitted_and_watched_until_it_ends(client, gateway):
    """Each change is yielded once, and each poll sends the ETag of the last response."""
    handle = client.submit("digest-files", {"paths": []})
    assert ["queued", "running", "succeeded"] == [document.status for document in handle.watch()]
    assert {"files": 1} == handle.result()
    polls = [request for request in gateway.requests if request.url.path != "/v1/events"]
    assert [None, '"0"', '"1"'] == [request.headers.get("if-none-match") for request in polls]


def test_an_unchanged_document_is_not_yielded_again(client, gateway):
    """A 304 yields nothing."""
    gateway.script = ["queued", httpx.Response(304, headers={"Retry-After": "0"}), "succeeded"]
    assert ["queued", "succeeded"] == [document.status for document in client.submit("x").watch()]


def test_a_watch_survives_a_short_outage_of_the_gateway(client, gateway, problem):
    """A restart of the gateway during a watch is only a pause."""
    gateway.script = ["queued", problem(503), problem(503), "succeeded"]
    assert "succeeded" == client.submit("x").wait().status


def test_a_long_outage_of_the_gateway_raises_unavailable(client, gateway, problem, monkeypatch):
    """The watch fails once the outage timeout is over."""
    monkeypatch.setattr("milepost_client._sync.watching.OUTAGE_TIMEOUT", 0.0)
    gateway.script = ["queued", problem(503)]
    with pytest.raises(Unavailable):
        client.submit("x").wait()


def test_a_wait_has_a_timeout(client, gateway):
    """The job is not affected: `StillRunning` is no error of the job."""
    gateway.script = ["queued"] * 1000
    with pytest.raises(StillRunning):
        client.submit("x").wait(timeout=0.05)


def test_a_failed_job_raises_in_result_and_not_in_wait(client, gateway):
    """`wait` returns the document, `result` raises the error of the job."""
    gateway.script = ["queued", "failed"]
    handle = client.submit("x")
    assert "failed" == handle.wait().status
    with pytest.raises(JobFailed, match="it broke"):
        handle.result()


@pytest.mark.parametrize("status, error", [(404, JobNotFound), (410, JobNotFound), (422, Refused), (503, Unavailable)])
def test_a_problem_is_raised_as_its_exception(client, gateway, problem, status, error):
    """The message has the title and the detail."""
    gateway.script = [problem(status, title="Oh no")]
    with pytest.raises(error, match=r"Oh no: Because\."):
        client.job("x")


def test_validation_errors_of_a_problem_are_in_the_message(client, gateway, problem):
    """The traceback shows which field is wrong."""
    gateway.script = [problem(422, errors=[{"pointer": "/params/steps", "detail": "is not an integer"}])]
    with pytest.raises(Refused, match="/params/steps: is not an integer"):
        client.submit("x")


def test_a_response_without_a_problem_document_raises_unavailable():
    """A proxy's error page is no problem document; the message has the status code."""
    transport = httpx.MockTransport(lambda _: httpx.Response(502, text="<html>"))
    with (
        Client("http://x.test", http=httpx.Client(transport=transport), retry_timeout=timedelta(0)) as client,
        pytest.raises(Unavailable, match="502"),
    ):
        client.types()


def test_a_refused_connection_raises_unavailable():
    """The message has the address."""

    def refuse(request):
        raise httpx.ConnectError("refused")

    transport = httpx.MockTransport(refuse)
    with (
        Client("http://x.test", http=httpx.Client(transport=transport), retry_timeout=timedelta(0)) as client,
        pytest.raises(Unavailable, match=r"x\.test"),
    ):
        client.types()


def test_files_are_sent_as_a_multipart_form(client, gateway, tmp_path):
    """Names are relative paths; hidden files are left out."""
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


def test_secret_params_of_a_model_are_sent_as_they_are():
    """Pydantic would send their masks; the gateway seals what it gets."""

    class Login(BaseModel):
        pin: Secret[int]
        born: date

    class Params(BaseModel):
        token: SecretStr = Field(alias="api-token")
        raw: SecretBytes
        logins: dict[str, Login]
        optional: SecretStr | None = None

    login = Login(pin=1234, born=date(2000, 1, 2))
    params = Params(**{"api-token": "hunter2", "raw": b"bytes", "logins": {"a": login}})
    sent = {
        "api-token": "hunter2",
        "raw": "bytes",
        "logins": {"a": {"pin": 1234, "born": "2000-01-02"}},
        "optional": None,
    }
    assert sent == Submission(type="count", params=params).body()["params"]
    assert {"many": ["hunter2"]} == Submission(type="count", params={"many": [SecretStr("hunter2")]}).body()["params"]
    assert "hunter2" not in repr(params)


def test_a_missing_file_raises_before_anything_is_sent(client, gateway, tmp_path):
    """The error has the path."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_files([tmp_path / "nowhere"])
    assert [] == gateway.requests


def test_a_client_sends_its_api_key(gateway, monkeypatch):
    """The key is the argument, or else the environment variable."""
    transport = httpx.MockTransport(gateway)
    monkeypatch.setenv("MILEPOST_API_KEY", "mp_environment")
    for options, expected in (({"api_key": "mp_given"}, "Bearer mp_given"), ({}, "Bearer mp_environment")):
        with Client("http://gateway.test", http=httpx.Client(transport=transport), **options) as client:
            client.types()
        assert expected == gateway.requests[-1].headers["authorization"]


def test_a_client_reads_its_api_key_from_a_file(gateway, monkeypatch, tmp_path):
    """Without the newline at its end; a file and a key contradict each other."""
    monkeypatch.delenv("MILEPOST_API_KEY", raising=False)
    monkeypatch.setenv("MILEPOST_API_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(ValueError, match=r"MILEPOST_API_KEY_FILE: .*key can't be read: No such file"):
        Client("http://gateway.test")
    (tmp_path / "key").write_text("\n")
    with pytest.raises(ValueError, match="is empty"):
        Client("http://gateway.test")
    (tmp_path / "key").write_text("mp_file\n")
    with Client("http://gateway.test", http=httpx.Client(transport=httpx.MockTransport(gateway))) as client:
        client.types()
    assert "Bearer mp_file" == gateway.requests[-1].headers["authorization"]
    monkeypatch.setenv("MILEPOST_API_KEY", "mp_environment")
    with pytest.raises(ValueError, match="are both set"):
        Client("http://gateway.test")


def test_a_429_raises_unavailable_with_its_retry_after(client, gateway):
    """The request is valid and can be sent again later."""
    problem = Problem.of(ProblemType.TOO_MANY_JOBS, "The limit of 2 unfinished jobs is reached.").model_dump_json()
    headers = {"content-type": MEDIA_TYPE, "retry-after": "7"}
    gateway.script = [httpx.Response(429, content=problem, headers=headers)]
    with pytest.raises(Unavailable) as caught:
        client.submit("digest-files")
    assert 7 == caught.value.retry_after
