"""The `milepost` command with several jobs, and with ended jobs."""

import json
from datetime import timedelta

import httpx
import pytest

from milepost_client import Client
from milepost_client.cli import __main__ as cli
from milepost_client.cli import options
from milepost_client.testing import FakeGateway


def fail(params):
    raise ValueError("it broke")


@pytest.fixture
def fake():
    made = FakeGateway()
    made.handle("count", lambda params, report: report(1, 2) or {"counted": params.get("steps", 0)})
    made.handle("fail", fail)
    made.handle("endless", None)
    return made


@pytest.fixture
def milepost(fake, monkeypatch, capsysbinary):
    """Run the command; return exit code, standard output and standard error."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nowhere")
    clients = []

    def client(url, **named):
        clients.append((url, named["api_key"]))
        return Client("http://x.test", http=httpx.Client(transport=fake), retry_timeout=timedelta(0))

    monkeypatch.setattr(options, "Client", client)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["milepost", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsysbinary.readouterr()
        return caught.value.code, out.decode(), err.decode()

    run.clients = clients
    return run


def submitted(fake, *types):
    with fake.client() as client:
        return [client.submit(type).id for type in types]


def test_several_jobs_are_watched_together(milepost, fake):
    """Each change is a line with its job; a table is printed at the end."""
    ids = submitted(fake, "count", "count")
    code, out, err = milepost("watch", *ids)
    assert (0, 3) == (code, len(out.splitlines()))
    assert f"count …{ids[0][-6:]}" in err
    assert f"count …{ids[1][-6:]}" in err
    assert "running" in err


@pytest.mark.parametrize(
    "types, code", [(("count",), 0), (("count", "fail"), 1), (("count", "canceled"), 3), (("canceled", "fail"), 1)]
)
def test_the_exit_code_of_watch_is_that_of_the_worst_outcome(milepost, fake, types, code):
    """Failed is worse than canceled, canceled is worse than succeeded."""
    ids = [submitted(fake, "endless" if kind == "canceled" else kind)[0] for kind in types]
    for job in fake.jobs.values():
        if job.submission["type"] == "endless":
            job.cancel()
    assert code == milepost("watch", *ids)[0]


def test_result_prints_only_the_result(milepost, fake):
    """The command waits for the job; progress goes to standard error."""
    (job_id,) = submitted(fake, "count")
    code, out, err = milepost("result", job_id)
    assert (0, {"counted": 0}) == (code, json.loads(out))
    assert "running" in err


def test_a_result_can_be_written_to_a_file(milepost, fake, tmp_path):
    """A path that cannot be written exits with 2."""
    (job_id,) = submitted(fake, "count")
    assert (0, "") == milepost("result", job_id, "--output", str(tmp_path / "r.json"))[:2]
    assert {"counted": 0} == json.loads((tmp_path / "r.json").read_text())
    assert 2 == milepost("result", job_id, "--output", str(tmp_path / "no" / "r.json"))[0]


def test_result_of_a_job_without_one_reports_the_reason(milepost, fake):
    """The exit code is 1 for a failed job, with its error, and 3 for a canceled one."""
    failed, canceled = submitted(fake, "fail", "endless")
    fake.jobs[canceled].cancel()
    code, out, err = milepost("result", failed)
    assert (1, "", True) == (code, out, "milepost: it broke" in err)
    code, out, err = milepost("result", canceled)
    assert (3, "", True) == (code, out, "canceled" in err)


def test_an_ended_job_can_be_retried_and_deleted(milepost, fake):
    """An unfinished job cannot be deleted."""
    (job_id,) = submitted(fake, "count")
    assert 2 == milepost("delete", job_id)[0]
    milepost("watch", job_id)
    code, out, _ = milepost("retry", job_id, "--watch", "--json")
    assert (0, 2) == (code, json.loads(out)["run"])
    assert 0 == milepost("delete", job_id)[0]
    assert 4 == milepost("status", job_id)[0]


@pytest.fixture
def jobs_file(tmp_path):
    """Write a file of jobs; return its path."""

    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_batch_submits_each_line_as_a_job(milepost, fake, jobs_file):
    """A line is a complete submission; blank lines are skipped; ids are printed in the order of the lines."""
    lines = ['{"type": "count", "params": {"steps": 1}, "tags": ["a"], "delay": 5}', "", '{"type": "count"}']
    code, out, err = milepost("batch", jobs_file("jobs.jsonl", "\n".join(lines)), "--tag", "nightly")
    assert (0, list(fake.jobs)) == (code, out.split())
    first, second = (job.submission for job in fake.jobs.values())
    assert ({"steps": 1}, ["a", "nightly"], 5.0) == (first["params"], first["tags"], first["delay"])
    assert ["nightly"] == second["tags"]
    assert "2 accepted" in err
    assert "milepost list --batch fakebatch1" in err


def test_with_a_type_each_line_has_only_the_params(milepost, fake, jobs_file):
    """The same holds for CSV: an empty field is an omitted param."""
    assert 0 == milepost("batch", jobs_file("a.jsonl", '{"steps": 1}\n'), "--type", "count")[0]
    assert 0 == milepost("batch", jobs_file("b.csv", 'steps,name\n2,"x, y"\n,z\n'), "--type", "count")[0]
    assert [{"steps": 1}, {"steps": 2, "name": "x, y"}, {"name": "z"}] == [
        job.submission["params"] for job in fake.jobs.values()
    ]


def test_line_breaks_within_a_value_are_kept(milepost, fake, jobs_file):
    """This includes U+2028, which `str.splitlines` takes for a line break."""
    assert 0 == milepost("batch", jobs_file("a.csv", 'name\n"one\ntwo\u2028three"\n'), "--type", "count")[0]
    assert 0 == milepost("batch", jobs_file("b.jsonl", '{"name": "one\u2028two"}\n'), "--type", "count")[0]
    assert ["one\ntwo\u2028three", "one\u2028two"] == [job.submission["params"]["name"] for job in fake.jobs.values()]


def test_batch_with_watch_follows_all_its_jobs(milepost, fake, jobs_file):
    """The exit code says whether all succeeded."""
    code, out, err = milepost("batch", jobs_file("a.jsonl", "{}\n{}\n"), "--type", "count", "--watch", "--json")
    assert (0, {"succeeded": 2}) == (code, json.loads(out)["counts"])
    assert "2 of 2 ended  2 succeeded" in err
    assert 1 == milepost("batch", jobs_file("a.jsonl", "{}\n"), "--type", "fail", "--watch")[0]


def test_refused_jobs_of_a_batch_are_reported(milepost, fake, jobs_file):
    """The others are accepted; the exit code is 2."""
    code, out, err = milepost("batch", jobs_file("a.jsonl", '{"type": "count"}\n{"type": "nothing"}\n'))
    assert (2, 1) == (code, len(out.split()))
    assert "Line 2 was refused: Unknown job type" in err
    assert "1 accepted, 1 refused" in err


@pytest.mark.parametrize(
    "name, text, words, expected_text",
    [
        ("a.jsonl", '{"type": "count"}\n{nonsense\n', (), "line 2 of"),
        ("a.jsonl", "[1]\n", (), "line 1 of"),
        ("a.jsonl", '{"type": "count", "prams": {}}\n', (), "prams"),
        ("a.jsonl", "\n", (), "has no jobs"),
        ("a.csv", "steps,steps\n1,2\n", ("--type", "count"), "twice"),
        ("a.csv", "steps\n1\n", (), "--type"),
        ("a.csv", "steps\n1,2\n", ("--type", "count"), "line 2"),
        ("a.csv", "steps,name\n1\n", ("--type", "count"), "line 2"),
        ("a.csv", "steps,name\n1,a\0b\n", ("--type", "count"), "line 2"),
        ("a.jsonl", '{"type": "count"}\n' * 1_100 + '{"type": "count", "params": {"n": NaN}}\n', (), "line 1101 of"),
        ("a.jsonl", '{"type": "count", "params": {"n": 1e999}}\n', (), "too large"),
        ("a.jsonl", '{"type": "count", "params": {"n": "\\u0000"}}\n', (), "a NUL"),
        ("a.jsonl", '{"type": "count", "params": {"n": "\\ud800"}}\n', (), "unpaired surrogate"),
        ("a.jsonl", "[" * 200_000 + "\n", (), "nested too deeply"),
    ],
)
def test_an_invalid_batch_file_submits_nothing(milepost, fake, jobs_file, name, text, words, expected_text):
    """The error names the line or the reason."""
    code, _, err = milepost("batch", jobs_file(name, text), *words)
    assert (2, {}) == (code, fake.jobs)
    assert expected_text in " ".join(err.replace("│", " ").split())


def test_a_missing_batch_file_is_reported(milepost, tmp_path):
    """The exit code is 2."""
    code, _, err = milepost("batch", str(tmp_path / "nowhere.jsonl"))
    assert (2, True) == (code, "can't be read" in err)


def test_the_gateway_and_the_key_come_from_options_environment_or_file(milepost, monkeypatch, tmp_path):
    """Options take precedence over the environment, and the environment over the file."""
    path = tmp_path / "milepost" / "config.toml"
    path.parent.mkdir()
    path.write_text('url = "http://file.test"\napi_key = "mp_file"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    milepost("list")
    monkeypatch.setenv("MILEPOST_URL", "http://environment.test")
    milepost("list")
    monkeypatch.setenv("MILEPOST_API_KEY", "mp_environment")
    milepost("list", "--url", "http://option.test")
    assert [
        ("http://file.test", "mp_file"),
        ("http://environment.test", None),  # the key of the file is sent to the gateway of the file only
        ("http://option.test", "mp_environment"),
    ] == milepost.clients


@pytest.mark.parametrize(
    "text, expected_text",
    [("url = 5", "url"), ("ulr = 'x'", "ulr"), ("url", "can't be read"), (None, "does not exist")],
)
def test_an_invalid_configuration_file_is_reported(milepost, monkeypatch, tmp_path, text, expected_text):
    """The error has the path."""
    path = tmp_path / "config.toml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("MILEPOST_CONFIG", str(path))
    code, _, err = milepost("list")
    assert (2, True, True) == (code, expected_text in err, str(path) in err)


def test_a_shell_can_complete_types_and_ids(milepost, fake, monkeypatch):
    """It calls the command as the completion script of the shell does; without a gateway there are no completions."""
    (job_id,) = submitted(fake, "count")

    def completions(words):
        monkeypatch.setenv("_MILEPOST_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        return milepost()[1].split()

    assert ["count"] == completions("milepost submit co")
    assert [job_id] == completions("milepost status fake0")
    assert "batch" in completions("milepost ba")
    monkeypatch.setenv("MILEPOST_URL", "http://environment.test")
    assert ["count"] == completions("milepost submit co")
    assert "http://environment.test" == milepost.clients[-1][0]
    fake.available = False
    assert [] == completions("milepost submit co")
