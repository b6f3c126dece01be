"""Downloads of output files, with the SDK and on the command line."""

import pytest

from milepost_client import DownloadError

JOB = "06gvrfugk5uqp4ai689fqgvn1s0s43st4sfvhj6i"


@pytest.fixture
def with_outputs(gateway):
    """A succeeded job with two output files."""
    gateway.script = ["succeeded"]
    gateway.outputs = {"a.txt": b"one", "sub/b.txt": b"two"}


def test_files_are_saved_under_their_names(client, with_outputs, tmp_path):
    """Folders are created."""
    paths = list(client.job(JOB).download(tmp_path))
    assert [tmp_path / "a.txt", tmp_path / "sub" / "b.txt"] == paths
    assert [b"one", b"two"] == [path.read_bytes() for path in paths]


def test_an_existing_file_is_replaced_only_on_request(client, with_outputs, tmp_path):
    """Without `replace`, no other file is saved either."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("mine")
    handle = client.job(JOB)
    with pytest.raises(FileExistsError):
        list(handle.download(tmp_path))
    assert ["sub"] == [path.name for path in tmp_path.iterdir()]
    assert 2 == len(list(handle.download(tmp_path, replace=True)))
    assert b"two" == (tmp_path / "sub" / "b.txt").read_bytes()


def test_a_damaged_download_is_not_saved(client, gateway, with_outputs, tmp_path):
    """Its digest does not match."""
    handle = client.job(JOB)
    gateway.outputs["a.txt"] = b"0ne"
    with pytest.raises(DownloadError, match=r"a\.txt"):
        list(handle.download(tmp_path, names=["a.txt"]))
    assert [] == list(tmp_path.iterdir())


def test_a_name_outside_the_folder_is_refused(client, gateway, with_outputs, tmp_path):
    """The client does not trust the names that a gateway sends."""
    gateway.outputs = {"../up": b"no"}
    with pytest.raises(DownloadError, match="is outside"):
        list(client.job(JOB).download(tmp_path / "here"))
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize(
    "words, expected_code, expected_text",
    [
        (("nothing.txt",), 2, "Its files: a.txt, sub/b.txt"),
        (("--to", "/proc/nowhere"), 2, "/proc/nowhere"),
    ],
)
def test_a_failed_download_is_reported_without_a_traceback(milepost, with_outputs, words, expected_code, expected_text):
    """The exit code is 2, and the message has the reason."""
    code, _, err = milepost("download", JOB, *words)
    assert expected_code == code
    assert expected_text in " ".join(err.replace("│", " ").split())


def test_download_prints_the_paths_of_the_files(milepost, gateway, with_outputs, tmp_path):
    """Existing files need `--force`; the exit code is 1 if the job has no files."""
    code, out, _ = milepost("download", JOB, "--to", str(tmp_path))
    assert (0, 2) == (code, len(out.splitlines()))
    assert "--force" in milepost("download", JOB, "--to", str(tmp_path))[2]
    assert 0 == milepost("download", JOB, "--to", str(tmp_path), "--force")[0]
    gateway.outputs = {}
    assert (1, "") == milepost("download", JOB)[:2]


def test_status_shows_the_output_files(milepost, with_outputs):
    """It also shows the command that downloads them."""
    _, out, _ = milepost("status", JOB)
    assert "a.txt, 3 bytes" in out
    assert f"milepost download {JOB}" in out
