"""The `milepost` command: its output and exit codes."""

import json
from datetime import timedelta

import httpx
import pytest
from job_histories import RETENTION
from samples import ENDED, SUBMITTED

from milepost_client import Client, Unavailable
from milepost_client.cli.plain import plain_json
from milepost_contracts.messages.job_events import JobFailed, JobSubmitted, JobSucceeded
from milepost_contracts.status.render import render_document
from milepost_contracts.values import Items, JobError, Progress


def test_submit_prints_the_id_and_the_next_command(milepost):
    """Standard output has only the id, for scripts."""
    code, out, err = milepost("submit", "digest-files", "text=5")
    assert (0, 1) == (code, len(out.splitlines()))
    assert f"milepost status {out.strip()} --watch" in err


def test_param_values_are_json_unless_the_schema_declares_a_string(milepost, gateway):
    """`text=5` is text, `n=5` a number, `x=[1]` a list, `y=hello` text."""
    milepost("submit", "digest-files", "text=5", "n=5", "x=[1]", "y=hello")
    submission = json.loads(gateway.requests[-1].read())
    assert {"text": "5", "n": 5, "x": [1], "y": "hello"} == submission["params"]


def test_watch_prints_progress_to_standard_error_and_the_result_to_standard_output(milepost):
    """Only the result goes into a pipe."""
    code, out, err = milepost("submit", "digest-files", "--watch")
    assert 0 == code
    assert '"files": 1' in out
    assert "running  30.0%" in err
    assert "running" not in out


@pytest.mark.parametrize("stage, code", [("succeeded", 0), ("failed", 1)])
def test_the_exit_code_of_watch_is_the_outcome_of_the_job(milepost, gateway, stage, code):
    """A script does not have to parse the output."""
    gateway.script = ["queued", stage]
    assert code == milepost("submit", "digest-files", "--watch")[0]


def test_json_prints_the_complete_document(milepost):
    """Standard output has nothing else."""
    _, out, _ = milepost("submit", "digest-files", "--watch", "--json")
    assert "succeeded" == json.loads(out)["status"]


@pytest.mark.parametrize("status, code", [(404, 4), (422, 2), (503, 5)])
def test_an_error_is_a_sentence_and_an_exit_code(milepost, gateway, problem, status, code):
    """No traceback is printed."""
    gateway.script = [problem(status, title="Oh no")]
    actual_code, out, err = milepost("status", "someid")
    assert (code, "", "milepost: Oh no: Because.\n") == (actual_code, out, err)


@pytest.mark.parametrize(
    "words, expected_text",
    [
        (["submit", "x", "novalue"], "key=value"),
        (["submit", "x", "a=1", "a=2"], "twice"),
        (["submit", "x", "--file", "nowhere.txt"], "nowhere.txt"),
        (["submti"], "submti"),
        (["list", "--status", "done"], "done"),
    ],
)
def test_invalid_usage_exits_with_two(milepost, words, expected_text):
    """The error names the wrong argument."""
    code, out, err = milepost(*words)
    assert (2, "") == (code, out)
    assert expected_text in err


def test_lists_are_printed_as_tables(milepost):
    """Each item is one line."""
    assert "digest-files" in milepost("list")[1]
    assert "text" in milepost("types")[1]


def test_a_start_time_is_a_duration_or_a_time(milepost, gateway):
    """`--delay` and `--expires-in` take a duration, `--run-at` takes a time."""
    milepost("submit", "digest-files", "--delay", "5m", "--expires-in", "90")
    submission = json.loads(gateway.requests[-1].read())
    assert (300, 90) == (submission["delay"], submission["expires_in"])
    milepost("submit", "digest-files", "--run-at", "2026-12-31T12:00:00Z")
    assert "2026-12-31T12:00:00+00:00" == json.loads(gateway.requests[-1].read())["run_at"]


@pytest.mark.parametrize(
    "words, expected_text",
    [
        (["--delay", "soon"], "not a duration"),
        (["--run-at", "tomorrow"], "not a time"),
        (["--run-at", "2026-12-31T12:00:00"], "no time zone"),
        (["--run-at", "2026-12-31T12:00:00Z", "--delay", "5m"], "not both"),
    ],
)
def test_an_invalid_time_is_reported(milepost, words, expected_text):
    """The exit code is 2, and the message has the reason."""
    code, _, err = milepost("submit", "digest-files", *words)
    assert (2, True) == (code, expected_text in " ".join(err.split()))


def test_cancel_with_watch_reports_the_outcome(milepost, gateway):
    """The exit code is 3 for a canceled job."""
    gateway.script = ["running", "canceled"]
    code, out, _ = milepost("cancel", "ID", "--watch")
    assert (3, True) == (code, "canceled" in out)
    assert gateway.requests[0].url.path.endswith("/cancel"), "a key with the scope `submit` may not read the job"


DEAD = {
    "items": [
        {
            "job_id": "abc",
            "type": "crunch",
            "queue": "cpu",
            "run": 1,
            "given_up_at": "2026-01-01T00:00:00Z",
            "error": {"kind": "dead_lettered", "message": "given up"},
        }
    ],
    "unreadable": [
        {"id": "d1", "reason": "not JSON", "queue": "work.cpu", "at": "2026-01-01T00:00:00Z", "size": 3, "excerpt": "x"}
    ],
}


@pytest.fixture
def dead(milepost):
    """Run `milepost dead …`."""
    return lambda *words: milepost("dead", *words)


def test_dead_list_shows_dead_letters(dead, gateway):
    """It lists jobs, and messages that could not be decoded."""
    gateway.script = [httpx.Response(200, json=DEAD)]
    code, out, _ = dead("list", "--type", "crunch")
    assert 0 == code
    assert "abc" in out
    assert "not JSON" in out
    assert "crunch" == gateway.requests[-1].url.params["type"]


def test_a_redrive_prints_the_ids(dead, gateway):
    """A redrive is of one job, or of all matching jobs at a rate; the output of a dry run says that it was one."""
    gateway.script = [httpx.Response(202, json={"dry_run": True, "count": 2, "job_ids": ["a", "b"]})]
    code, out, err = dead("redrive", "--queue", "cpu", "--rate", "5", "--dry-run")
    assert (0, "a\nb\n") == (code, out)
    assert "2 would be redriven" in err
    body = json.loads(gateway.requests[-1].read())
    assert ("cpu", 5.0, True) == (body["queue"], body["rate"], body["dry_run"])
    gateway.script, gateway.position = ["queued"], 0
    code, out, err = dead("redrive", "ID")
    assert (0, "/v1/dead-letters/ID/redrive") == (code, gateway.requests[-1].url.path)
    assert "1 redriven" in err


def test_version_prints_the_version(milepost):
    """A bug report needs it."""
    code, out, _ = milepost("--version")
    assert (0, "milepost") == (code, out.split()[0])


def test_webhooks_are_listed_and_redelivered_and_their_secrets_are_printed(milepost, gateway):
    """Standard output has only ids and secrets; a receiver's error text is printed without interpretation."""
    attempt = {"webhook_id": "w", "event": "succeeded", "number": 1, "at": "2026-01-02T03:04:05Z", "outcome": "failed"}
    gateway.script = [
        httpx.Response(200, json={"url": "https://example.com/", "items": [{**attempt, "error": "[red]no[/]"}]}),
        httpx.Response(202, json={"webhook_id": "w"}),
        httpx.Response(200, json={"items": ["whsec_2", "whsec_1"]}),
    ]
    code, out, _ = milepost("webhooks", "list", "someid")
    assert 0 == code
    assert "[red]no[/]" in out
    assert (0, "w\n", "") == milepost("webhooks", "redeliver", "someid")
    assert (0, "whsec_2\nwhsec_1\n", "") == milepost("webhooks", "secrets")
    assert ["/v1/jobs/someid/webhooks", "/v1/jobs/someid/webhooks/redeliver", "/v1/webhook-secrets"] == [
        request.url.path for request in gateway.requests
    ]


def test_a_callback_url_is_part_of_the_submission(milepost, gateway):
    """It is sent unchanged."""
    milepost("submit", "digest-files", "text=5", "--callback-url", "https://example.com/")
    assert "https://example.com/" == json.loads(gateway.requests[-1].read())["callback_url"]


def test_a_redrive_of_everything_needs_all(dead, gateway):
    """A command without arguments redrives nothing."""
    code, _, err = dead("redrive")
    assert (2, True, []) == (code, "--all" in err, gateway.requests)
    gateway.script = [httpx.Response(202, json={"job_ids": ["a"]})]
    assert (0, "a\n") == dead("redrive", "--all")[:2]


def test_a_key_with_the_submit_scope_alone_can_submit(milepost, gateway, problem):
    """It cannot read the schema, so every value that parses as JSON is JSON."""
    gateway.types = problem(403, title="Not allowed")
    assert 0 == milepost("submit", "digest-files", "text=5")[0]
    assert {"text": 5} == json.loads(gateway.requests[-1].read())["params"]


EVIL = "\x1b]0;title\x07\x1b[2J\x9b31mred"


def test_control_characters_are_escaped_in_the_output(milepost, gateway):
    """A handler's message, result, error or file name may contain sequences that move the cursor or hide text."""
    progress = Progress(done=1, total=2, message=EVIL)
    ended = ENDED.model_copy(
        update={"progress": progress, "result": {EVIL: EVIL}, "items": Items(count=1, last=(EVIL,))}
    )
    error = JobError(kind="exception", message=EVIL, traceback=EVIL)
    for event in (JobSucceeded(job=ended), JobFailed(job=ended.model_copy(update={"error": error, "result": None}))):
        body = render_document(event, cancel=None, version=3, retention=RETENTION)
        for words in (("status", "someid"), ("status", "someid", "--watch"), ("status", "someid", "--json"), ("list",)):
            response_body = b'{"items":[' + body + b'],"next":null}' if words == ("list",) else body
            gateway.script, gateway.position = [httpx.Response(200, content=response_body, headers={"etag": '"3"'})], 0
            output = "".join(milepost(*words)[1:])
            assert not {"\x1b", "\x07", "\x9b"} & set(output), words
    assert EVIL == json.loads(plain_json([EVIL]))[0], "JSON output decodes to the original text"


def test_status_says_why_a_job_waits(milepost, gateway):
    """For example that no processor serves its queue."""
    body = json.loads(render_document(JobSubmitted(job=SUBMITTED), cancel=None, version=1, retention=RETENTION))
    body["waiting"] = {"reason": "no-live-processor", "detail": "no live processor serves the queue default"}
    gateway.script = [httpx.Response(200, json=body, headers={"etag": '"1"'})]
    assert "waiting   no live processor serves the queue default" in milepost("status", "someid")[1]


def test_a_long_traceback_keeps_its_beginning_and_its_end(milepost, gateway):
    """The author's line is at the beginning, and what was raised is at the end."""
    error = JobError(kind="exception", message="x", traceback="\n".join(f"line {number}" for number in range(60)))
    event = JobFailed(job=ENDED.model_copy(update={"error": error, "result": None}))
    body = render_document(event, cancel=None, version=3, retention=RETENTION)
    gateway.script = [httpx.Response(200, content=body, headers={"etag": '"3"'})]
    lines = milepost("status", "someid")[1].splitlines()
    shown = [line.strip() for line in lines if "line " in line or "…" in line]
    assert ["line 0", "line 4", "…", "line 45", "line 59"] == [shown[0], shown[4], shown[5], shown[6], shown[-1]]


def test_a_password_in_a_url_is_not_in_the_error():
    """The error may be written to a log."""
    with (
        Client("http://user:secret@127.0.0.1:1", retry_timeout=timedelta(0)) as client,
        pytest.raises(Unavailable) as caught,
    ):
        client.types()
    assert "http://127.0.0.1:1 can't be reached" in str(caught.value)
    assert "secret" not in str(caught.value)
