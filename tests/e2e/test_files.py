"""Input files, output files and large results through a complete stack."""

import subprocess
from hashlib import sha256

import httpx
import pytest

from milepost_client import find_files

LARGE = {"text": "0123456789" * 1_000, "times": 100}


@pytest.fixture
def folder(tmp_path):
    """Some files to upload."""
    made = tmp_path / "sent"
    (made / "sub").mkdir(parents=True)
    (made / "a.txt").write_bytes(b"a" * 100_000)
    (made / "sub" / "b.txt").write_bytes(b"b")
    return made


def test_output_files_are_downloaded_unchanged(client, folder, tmp_path):
    """`sha256sum --check` confirms the checksums that the handler wrote of its input files."""
    handle = client.submit("digest-files", files=find_files([folder]))
    document = handle.wait(60)
    assert {"a.txt", "sub/b.txt"} == {file.name for file in document.files}
    assert sha256(b"b").hexdigest() in {file.digest for file in document.files}
    (path,) = handle.download(tmp_path / "got")
    assert "SHA256SUMS" == path.name
    subprocess.run(["sha256sum", "--check", "--strict", str(path)], cwd=folder, check=True, capture_output=True)
    with pytest.raises(KeyError):
        list(handle.download(tmp_path / "got", names=["other"]))


def test_a_large_result_is_a_file_that_can_be_downloaded_in_ranges(client, url):
    """The status document stays small."""
    handle = client.submit("echo", LARGE)
    expected = LARGE["text"] * LARGE["times"]
    assert {"text": expected} == handle.result(timeout=60)
    document = handle.document
    assert document.result is None
    assert len(expected) < document.result_file.size
    answer = httpx.get(f"{url}/v1/jobs/{handle.id}/result", headers={"Range": "bytes=9-18"})
    assert (206, expected[:10]) == (answer.status_code, answer.text)
    complete = httpx.get(f"{url}/v1/jobs/{handle.id}/result")
    assert sha256(complete.content).hexdigest() == document.result_file.digest


def test_a_retry_has_the_same_input_files_and_its_own_output_files(client, url, folder, tmp_path):
    """The retry is the job's second run."""
    handle = client.submit("digest-files", files=find_files([folder]))
    handle.wait(60)
    (first,) = handle.download(tmp_path / "first")
    httpx.post(f"{url}/v1/jobs/{handle.id}/retry").raise_for_status()
    again = client.job(handle.id)
    again.wait(60)
    assert 2 == again.document.run
    (second,) = again.download(tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()


def test_a_deleted_job_is_gone_with_its_files_and_events(client, url, folder):
    """From the response on, it answers 410 and is in no list; other jobs stay."""
    handles = [client.submit("digest-files", files=find_files([folder]), tags=["to-delete"]) for _ in range(2)]
    for handle in handles:
        handle.wait(60)
    gone, kept = (f"{url}/v1/jobs/{handle.id}" for handle in handles)
    assert 204 == httpx.delete(gone).status_code
    for path in ("", "/result", "/outputs/SHA256SUMS", "/events"):
        assert 410 == httpx.get(gone + path).status_code
    assert 200 == httpx.get(kept).status_code
    listed = httpx.get(f"{url}/v1/jobs", params={"tag": "to-delete"}).json()["items"]
    assert [handles[1].id] == [one["id"] for one in listed]
