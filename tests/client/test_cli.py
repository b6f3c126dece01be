"""The `milepost` command: what it prints where, and how it exits."""

import json
from datetime import timedelta

import httpx
import pytest
from job_histories import RETENTION
from samples import ENDED

from milepost_client import Client, Unavailable
from milepost_client.cli.plain import plain_json
from milepost_contracts.document import render
from milepost_contracts.events import JobFailed, JobSucceeded
from milepost_contracts.values import Items, JobError, Progress


def test_submitting_prints_the_id_and_how_to_go_on(milepost):
    """The id alone on standard output, for scripts."""
    code, out, err = milepost("submit", "digest-files", "text=5")
    assert (0, 1) == (code, len(out.splitlines()))
    assert f"milepost status {out.strip()} --watch" in err


def test_values_are_json_unless_the_schema_asks_for_text(milepost, gateway):
    """`text=5` is text, `n=5` a number, `x=[1]` a list, `y=hello` text."""
    milepost("submit", "digest-files", "text=5", "n=5", "x=[1]", "y=hello")
    submission = json.loads(gateway.requests[-1].read())
    assert {"text": "5", "n": 5, "x": [1], "y": "hello"} == submission["params"]


def test_watching_shows_lines_on_standard_error_and_the_result_on_standard_output(milepost):
    """Progress is for people, data for pipes."""
    code, out, err = milepost("submit", "digest-files", "--watch")
    assert 0 == code
    assert '"files": 1' in out
    assert "running  30.0%" in err
    assert "running" not in out


@pytest.mark.parametrize("stage, code", [("succeeded", 0), ("failed", 1)])
def test_the_exit_code_of_a_watch_tells_how_the_job_ended(milepost, gateway, stage, code):
    """A script needs to read nothing."""
    gateway.script = ["queued", stage]
    assert code == milepost("submit", "digest-files", "--watch")[0]


def test_json_is_the_whole_document(milepost):
    """Nothing else on standard output."""
    _, out, _ = milepost("submit", "digest-files", "--watch", "--json")
    assert "succeeded" == json.loads(out)["status"]


@pytest.mark.parametrize("status, code", [(404, 4), (422, 2), (503, 5)])
def test_an_error_is_a_sentence_and_an_exit_code(milepost, gateway, problem, status, code):
    """No traceback."""
    gateway.script = [problem(status, title="Oh no")]
    answer, out, err = milepost("status", "someid")
    assert (code, "", "milepost: Oh no: Because.\n") == (answer, out, err)


@pytest.mark.parametrize(
    "words, says",
    [
        (["submit", "x", "novalue"], "key=value"),
        (["submit", "x", "a=1", "a=2"], "twice"),
        (["submit", "x", "--file", "nowhere.txt"], "nowhere.txt"),
        (["submti"], "submti"),
        (["list", "--status", "done"], "done"),
    ],
)
def test_a_call_that_does_not_fit_exits_with_two(milepost, words, says):
    """And says which word."""
    code, out, err = milepost(*words)
    assert (2, "") == (code, out)
    assert says in err


def test_lists_are_tables(milepost):
    """One line each."""
    assert "digest-files" in milepost("list")[1]
    assert "text" in milepost("types")[1]


def test_a_job_for_later_says_when(milepost, gateway):
    """By a length or a time."""
    milepost("submit", "digest-files", "--delay", "5m", "--expires-in", "90")
    submission = json.loads(gateway.requests[-1].read())
    assert (300, 90) == (submission["delay"], submission["expires_in"])
    milepost("submit", "digest-files", "--run-at", "2026-12-31T12:00:00Z")
    assert "2026-12-31T12:00:00+00:00" == json.loads(gateway.requests[-1].read())["run_at"]


@pytest.mark.parametrize(
    "words, says",
    [
        (["--delay", "soon"], "no length of time"),
        (["--run-at", "tomorrow"], "no time"),
        (["--run-at", "2026-12-31T12:00:00"], "no time zone"),
        (["--run-at", "2026-12-31T12:00:00Z", "--delay", "5m"], "not both"),
    ],
)
def test_a_time_that_makes_no_sense_is_told(milepost, words, says):
    """Before anything is sent."""
    code, _, err = milepost("submit", "digest-files", *words)
    assert (2, True) == (code, says in " ".join(err.split()))


def test_a_cancel_asks_and_a_watch_tells_how_it_ended(milepost, gateway):
    """Exit code 3 for a job that was canceled."""
    gateway.script = ["running", "canceled"]
    code, out, _ = milepost("cancel", "ID", "--watch")
    assert (3, True) == (code, "canceled" in out)
    assert gateway.requests[0].url.path.endswith("/cancel"), "who may only submit may not look first"


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


def test_what_was_given_up_is_listed(dead, gateway):
    """Jobs, and messages that nobody could read."""
    gateway.script = [httpx.Response(200, json=DEAD)]
    code, out, _ = dead("list", "--type", "crunch")
    assert 0 == code
    assert "abc" in out
    assert "not JSON" in out
    assert "crunch" == gateway.requests[-1].url.params["type"]


def test_a_redrive_prints_the_ids(dead, gateway):
    """Of one job, or of all that fit, at a rate; a dry run says so."""
    gateway.script = [httpx.Response(202, json={"dry_run": True, "count": 2, "job_ids": ["a", "b"]})]
    code, out, err = dead("redrive", "--queue", "cpu", "--rate", "5", "--dry-run")
    assert (0, "a\nb\n") == (code, out)
    assert "2 would be handed over again" in err
    asked = json.loads(gateway.requests[-1].read())
    assert ("cpu", 5.0, True) == (asked["queue"], asked["rate"], asked["dry_run"])
    gateway.script, gateway.at = ["queued"], 0
    code, out, err = dead("redrive", "ID")
    assert (0, "/v1/dead-letters/ID/redrive") == (code, gateway.requests[-1].url.path)
    assert "1 was handed over again" in err


def test_the_version_is_told(milepost):
    """For reports of faults."""
    code, out, _ = milepost("--version")
    assert (0, "milepost") == (code, out.split()[0])


def test_webhooks_are_listed_sent_again_and_verified(milepost, gateway):
    """Ids and secrets alone on standard output; what a receiver or its host says is shown as it is."""
    tried = {"webhook_id": "w", "event": "succeeded", "number": 1, "at": "2026-01-02T03:04:05Z", "outcome": "failed"}
    gateway.script = [
        httpx.Response(200, json={"url": "https://example.com/", "items": [{**tried, "error": "[red]no[/]"}]}),
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


def test_a_callback_url_travels_with_the_submission(milepost, gateway):
    """As it was given."""
    milepost("submit", "digest-files", "text=5", "--callback-url", "https://example.com/")
    assert "https://example.com/" == json.loads(gateway.requests[-1].read())["callback_url"]


def test_a_redrive_of_everything_is_asked_for_by_name(dead, gateway):
    """A command that is cut short hands nothing over."""
    code, _, err = dead("redrive")
    assert (2, True, []) == (code, "--all" in err, gateway.requests)
    gateway.script = [httpx.Response(202, json={"job_ids": ["a"]})]
    assert (0, "a\n") == dead("redrive", "--all")[:2]


def test_a_key_that_may_submit_and_not_read_submits(milepost, gateway, problem):
    """Values are JSON where they read as JSON then, for the schema is not told."""
    gateway.types = problem(403, title="Not allowed")
    assert 0 == milepost("submit", "digest-files", "text=5")[0]
    assert {"text": 5} == json.loads(gateway.requests[-1].read())["params"]


EVIL = "\x1b]0;title\x07\x1b[2J\x9b31mred"


def test_what_others_write_does_nothing_to_a_terminal(milepost, gateway):
    """A handler's message, result, error or file name may hold what moves cursors and hides text: it is spelled out."""
    progress = Progress(done=1, total=2, message=EVIL)
    ended = ENDED.model_copy(
        update={"progress": progress, "result": {EVIL: EVIL}, "items": Items(count=1, last=(EVIL,))}
    )
    error = JobError(kind="exception", message=EVIL, traceback=EVIL)
    for event in (JobSucceeded(job=ended), JobFailed(job=ended.model_copy(update={"error": error, "result": None}))):
        body = render(event, cancel=None, version=3, retention=RETENTION)
        for words in (("status", "someid"), ("status", "someid", "--watch"), ("status", "someid", "--json"), ("list",)):
            answer = b'{"items":[' + body + b'],"next":null}' if words == ("list",) else body
            gateway.script, gateway.at = [httpx.Response(200, content=answer, headers={"etag": '"3"'})], 0
            told = "".join(milepost(*words)[1:])
            assert not {"\x1b", "\x07", "\x9b"} & set(told), words
    assert EVIL == json.loads(plain_json([EVIL]))[0], "as JSON it is the same text all the same"


def test_a_password_in_a_url_is_not_told():
    """It would stand in a log."""
    with (
        Client("http://user:secret@127.0.0.1:1", patience=timedelta(0)) as client,
        pytest.raises(Unavailable) as caught,
    ):
        client.types()
    assert "http://127.0.0.1:1 can't be reached" in str(caught.value)
    assert "secret" not in str(caught.value)
