"""The `milepost` command: what it prints where, and how it exits."""

import json

import httpx
import pytest

from milepost_client import Client
from milepost_client.cli import __main__ as cli


@pytest.fixture
def milepost(gateway, monkeypatch, capsys):
    """Run the command against the canned gateway; return exit code, standard output and standard error."""
    monkeypatch.setattr(
        cli,
        "Client",
        lambda url: Client("http://gateway.test", http=httpx.Client(transport=httpx.MockTransport(gateway))),
    )

    def run(*words):
        monkeypatch.setattr("sys.argv", ["milepost", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code, *capsys.readouterr()

    return run


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
