"""Saving what a handler wrote, with the SDK and on the command line."""

import pytest

from milepost_client import Damaged

JOB = "06gvrfugk5uqp4ai689fqgvn1s0s43st4sfvhj6i"


@pytest.fixture
def wrote(gateway):
    """A job that has succeeded, and wrote two files."""
    gateway.script = ["succeeded"]
    gateway.outputs = {"a.txt": b"one", "sub/b.txt": b"two"}


def test_files_are_saved_under_their_names(client, wrote, tmp_path):
    """Folders are made."""
    paths = list(client.job(JOB).download(tmp_path))
    assert [tmp_path / "a.txt", tmp_path / "sub" / "b.txt"] == paths
    assert [b"one", b"two"] == [path.read_bytes() for path in paths]


def test_what_is_there_stays_unless_it_may_be_replaced(client, wrote, tmp_path):
    """And nothing else is saved then."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("mine")
    handle = client.job(JOB)
    with pytest.raises(FileExistsError):
        list(handle.download(tmp_path))
    assert ["sub"] == [path.name for path in tmp_path.iterdir()]
    assert 2 == len(list(handle.download(tmp_path, replace=True)))
    assert b"two" == (tmp_path / "sub" / "b.txt").read_bytes()


def test_what_came_damaged_is_not_saved(client, gateway, wrote, tmp_path):
    """Its digest is another one."""
    handle = client.job(JOB)
    gateway.outputs["a.txt"] = b"0ne"
    with pytest.raises(Damaged, match=r"a\.txt"):
        list(handle.download(tmp_path, names=["a.txt"]))
    assert [] == list(tmp_path.iterdir())


def test_a_name_that_leads_out_of_the_folder_is_not_followed(client, gateway, wrote, tmp_path):
    """Whatever a gateway says."""
    gateway.outputs = {"../up": b"no"}
    with pytest.raises(Damaged, match="leads out"):
        list(client.job(JOB).download(tmp_path / "here"))
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize(
    "words, expect, told",
    [
        (("nothing.txt",), 2, "there are: a.txt, sub/b.txt"),
        (("--to", "/proc/nowhere"), 2, "/proc/nowhere"),
    ],
)
def test_what_can_not_be_saved_is_one_sentence(milepost, wrote, words, expect, told):
    """No traceback."""
    code, _, err = milepost("download", JOB, *words)
    assert expect == code
    assert told in " ".join(err.replace("│", " ").split())


def test_the_command_prints_paths_and_says_when_there_are_none(milepost, gateway, wrote, tmp_path):
    """Data on standard output, the exit code for scripts."""
    code, out, _ = milepost("download", JOB, "--to", str(tmp_path))
    assert (0, 2) == (code, len(out.splitlines()))
    assert "--force" in milepost("download", JOB, "--to", str(tmp_path))[2]
    assert 0 == milepost("download", JOB, "--to", str(tmp_path), "--force")[0]
    gateway.outputs = {}
    assert (1, "") == milepost("download", JOB)[:2]


def test_a_look_shows_what_there_is_to_save(milepost, wrote):
    """And how."""
    _, out, _ = milepost("status", JOB)
    assert "a.txt, 3 bytes" in out
    assert f"milepost download {JOB}" in out
