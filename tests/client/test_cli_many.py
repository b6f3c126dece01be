"""The `milepost` command with several jobs, and with jobs that have run."""

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
    made = []

    def client(url, **named):
        made.append((url, named["api_key"]))
        return Client("http://x.test", http=httpx.Client(transport=fake), patience=timedelta(0))

    monkeypatch.setattr(options, "Client", client)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["milepost", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsysbinary.readouterr()
        return caught.value.code, out.decode(), err.decode()

    run.asked = made
    return run


def submitted(fake, *types):
    with fake.client() as client:
        return [client.submit(type).id for type in types]


def test_several_jobs_are_watched_together(milepost, fake):
    """A line for each change, with the job that it is of; a table at the end."""
    ids = submitted(fake, "count", "count")
    code, out, err = milepost("watch", *ids)
    assert (0, 3) == (code, len(out.splitlines()))
    assert f"count …{ids[0][-6:]}" in err
    assert f"count …{ids[1][-6:]}" in err
    assert "running" in err


@pytest.mark.parametrize(
    "types, code", [(("count",), 0), (("count", "fail"), 1), (("count", "canceled"), 3), (("canceled", "fail"), 1)]
)
def test_the_exit_code_of_a_watch_is_that_of_the_worst_end(milepost, fake, types, code):
    """Failed before canceled before succeeded."""
    ids = [submitted(fake, "endless" if kind == "canceled" else kind)[0] for kind in types]
    for job in fake.jobs.values():
        if job.submission["type"] == "endless":
            job.cancel()
    assert code == milepost("watch", *ids)[0]


def test_a_result_is_data_alone(milepost, fake):
    """It is waited for; progress goes to standard error."""
    (job_id,) = submitted(fake, "count")
    code, out, err = milepost("result", job_id)
    assert (0, {"counted": 0}) == (code, json.loads(out))
    assert "running" in err


def test_a_result_can_go_to_a_file(milepost, fake, tmp_path):
    """And a place that is none is told."""
    (job_id,) = submitted(fake, "count")
    assert (0, "") == milepost("result", job_id, "--output", str(tmp_path / "r.json"))[:2]
    assert {"counted": 0} == json.loads((tmp_path / "r.json").read_text())
    assert 2 == milepost("result", job_id, "--output", str(tmp_path / "no" / "r.json"))[0]


def test_a_job_without_a_result_says_why(milepost, fake):
    """1 for a failure, with its words; 3 for a cancel."""
    failed, canceled = submitted(fake, "fail", "endless")
    fake.jobs[canceled].cancel()
    code, out, err = milepost("result", failed)
    assert (1, "", True) == (code, out, "milepost: it broke" in err)
    code, out, err = milepost("result", canceled)
    assert (3, "", True) == (code, out, "canceled" in err)


def test_an_ended_job_is_retried_and_deleted(milepost, fake):
    """What has not ended is neither."""
    (job_id,) = submitted(fake, "count")
    assert 2 == milepost("delete", job_id)[0]
    milepost("watch", job_id)
    code, out, _ = milepost("retry", job_id, "--watch", "--json")
    assert (0, 2) == (code, json.loads(out)["run"])
    assert 0 == milepost("delete", job_id)[0]
    assert 4 == milepost("status", job_id)[0]


@pytest.fixture
def file(tmp_path):
    """Write a file of jobs."""

    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_a_batch_of_lines_is_handed_over(milepost, fake, file):
    """Each says all of a job; blank lines are none; ids come out in the order of the lines."""
    lines = ['{"type": "count", "params": {"steps": 1}, "tags": ["a"], "delay": 5}', "", '{"type": "count"}']
    code, out, err = milepost("batch", file("jobs.jsonl", "\n".join(lines)), "--tag", "nightly")
    assert (0, list(fake.jobs)) == (code, out.split())
    first, second = (job.submission for job in fake.jobs.values())
    assert ({"steps": 1}, ["a", "nightly"], 5.0) == (first["params"], first["tags"], first["delay"])
    assert ["nightly"] == second["tags"]
    assert "2 accepted" in err
    assert "milepost list --batch fakebatch1" in err


def test_a_batch_of_one_type_has_its_params_in_the_lines(milepost, fake, file):
    """From CSV too: an empty field is a param that is not given."""
    assert 0 == milepost("batch", file("a.jsonl", '{"steps": 1}\n'), "--type", "count")[0]
    assert 0 == milepost("batch", file("b.csv", 'steps,name\n2,"x, y"\n,z\n'), "--type", "count")[0]
    assert [{"steps": 1}, {"steps": 2, "name": "x, y"}, {"name": "z"}] == [
        job.submission["params"] for job in fake.jobs.values()
    ]


def test_what_is_in_a_field_or_a_string_stays_as_it_is(milepost, fake, file):
    """Ends of lines among it, those too that only some know."""
    assert 0 == milepost("batch", file("a.csv", 'name\n"one\ntwo\u2028three"\n'), "--type", "count")[0]
    assert 0 == milepost("batch", file("b.jsonl", '{"name": "one\u2028two"}\n'), "--type", "count")[0]
    assert ["one\ntwo\u2028three", "one\u2028two"] == [job.submission["params"]["name"] for job in fake.jobs.values()]


def test_a_batch_is_followed_as_one(milepost, fake, file):
    """The exit code tells whether all succeeded."""
    code, out, err = milepost("batch", file("a.jsonl", "{}\n{}\n"), "--type", "count", "--watch", "--json")
    assert (0, {"succeeded": 2}) == (code, json.loads(out)["counts"])
    assert "2 of 2 ended  2 succeeded" in err
    assert 1 == milepost("batch", file("a.jsonl", "{}\n"), "--type", "fail", "--watch")[0]


def test_what_is_refused_of_a_batch_is_told(milepost, fake, file):
    """The others are accepted; the exit code is 2."""
    code, out, err = milepost("batch", file("a.jsonl", '{"type": "count"}\n{"type": "nothing"}\n'))
    assert (2, 1) == (code, len(out.split()))
    assert "line 2 was refused: No such job type" in err
    assert "1 accepted, 1 refused" in err


@pytest.mark.parametrize(
    "name, text, words, says",
    [
        ("a.jsonl", '{"type": "count"}\n{nonsense\n', (), "line 2 of"),
        ("a.jsonl", "[1]\n", (), "line 1 of"),
        ("a.jsonl", '{"type": "count", "prams": {}}\n', (), "prams"),
        ("a.jsonl", "\n", (), "there are no jobs"),
        ("a.csv", "steps,steps\n1,2\n", ("--type", "count"), "twice"),
        ("a.csv", "steps\n1\n", (), "--type"),
        ("a.csv", "steps\n1,2\n", ("--type", "count"), "line 2"),
        ("a.csv", "steps,name\n1\n", ("--type", "count"), "line 2"),
        ("a.csv", "steps,name\n1,a\0b\n", ("--type", "count"), "line 2"),
        ("a.jsonl", '{"type": "count"}\n' * 1_100 + '{"type": "count", "params": {"n": NaN}}\n', (), "line 1101 of"),
        ("a.jsonl", '{"type": "count", "params": {"n": 1e999}}\n', (), "too large"),
        ("a.jsonl", '{"type": "count", "params": {"n": "\\u0000"}}\n', (), "a NUL"),
        ("a.jsonl", '{"type": "count", "params": {"n": "\\ud800"}}\n', (), "half a surrogate pair"),
        ("a.jsonl", "[" * 200_000 + "\n", (), "nested too deeply"),
    ],
)
def test_a_file_that_does_not_fit_hands_nothing_over(milepost, fake, file, name, text, words, says):
    """The line is named."""
    code, _, err = milepost("batch", file(name, text), *words)
    assert (2, {}) == (code, fake.jobs)
    assert says in " ".join(err.replace("│", " ").split())


def test_a_batch_that_is_not_there_is_told(milepost, tmp_path):
    """In one sentence."""
    code, _, err = milepost("batch", str(tmp_path / "nowhere.jsonl"))
    assert (2, True) == (code, "can't be read" in err)


def test_the_gateway_and_the_key_come_from_options_environment_or_file(milepost, monkeypatch, tmp_path):
    """In this order."""
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
        ("http://environment.test", None),  # the file's key is for the file's gateway
        ("http://option.test", "mp_environment"),
    ] == milepost.asked


@pytest.mark.parametrize(
    "text, says", [("url = 5", "url"), ("ulr = 'x'", "ulr"), ("url", "can't be read"), (None, "not there")]
)
def test_a_configuration_that_does_not_fit_is_told(milepost, monkeypatch, tmp_path, text, says):
    """With its place, and without its values: one of them is a key."""
    path = tmp_path / "config.toml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("MILEPOST_CONFIG", str(path))
    code, _, err = milepost("list")
    assert (2, True, True) == (code, says in err, str(path) in err)


def test_a_shell_can_complete_types_and_ids(milepost, fake, monkeypatch):
    """As the shell's script asks for it; nothing, where no gateway answers."""
    (job_id,) = submitted(fake, "count")

    def completed(words):
        monkeypatch.setenv("_MILEPOST_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        return milepost()[1].split()

    assert ["count"] == completed("milepost submit co")
    assert [job_id] == completed("milepost status fake0")
    assert "batch" in completed("milepost ba")
    monkeypatch.setenv("MILEPOST_URL", "http://environment.test")
    assert ["count"] == completed("milepost submit co")
    assert "http://environment.test" == milepost.asked[-1][0]
    fake.available = False
    assert [] == completed("milepost submit co")
