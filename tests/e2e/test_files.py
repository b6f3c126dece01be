"""Files in, files and large results out, through a whole stack."""

import subprocess
from hashlib import sha256

import httpx
import pytest

from milepost_client import find_files

LARGE = {"text": "0123456789" * 1_000, "times": 100}


@pytest.fixture
def folder(tmp_path):
    """Some files to send along."""
    made = tmp_path / "sent"
    (made / "sub").mkdir(parents=True)
    (made / "a.txt").write_bytes(b"a" * 100_000)
    (made / "sub" / "b.txt").write_bytes(b"b")
    return made


def test_what_a_handler_wrote_is_downloaded_and_true(client, folder, tmp_path):
    """`sha256sum --check` finds the files as the handler has read them, on another machine perhaps."""
    handle = client.submit("digest-files", files=find_files([folder]))
    document = handle.wait(60)
    assert {"a.txt", "sub/b.txt"} == {file.name for file in document.files}
    assert sha256(b"b").hexdigest() in {file.digest for file in document.files}
    (path,) = handle.download(tmp_path / "got")
    assert "SHA256SUMS" == path.name
    subprocess.run(["sha256sum", "--check", "--strict", str(path)], cwd=folder, check=True, capture_output=True)
    with pytest.raises(KeyError):
        list(handle.download(tmp_path / "got", names=["other"]))


def test_a_large_result_is_a_download_that_can_be_taken_up_again(client, url):
    """The status stays small; a part of the result is that part of it."""
    handle = client.submit("echo", LARGE)
    expected = LARGE["text"] * LARGE["times"]
    assert {"text": expected} == handle.result(timeout=60)
    document = handle.document
    assert document.result is None
    assert len(expected) < document.result_file.size
    answer = httpx.get(f"{url}/v1/jobs/{handle.id}/result", headers={"Range": "bytes=9-18"})
    assert (206, expected[:10]) == (answer.status_code, answer.text)
    whole = httpx.get(f"{url}/v1/jobs/{handle.id}/result")
    assert sha256(whole.content).hexdigest() == document.result_file.digest


def test_the_next_run_of_a_job_has_its_own_files(client, url, folder, tmp_path):
    """The same files come in, and the ones that it writes are new."""
    handle = client.submit("digest-files", files=find_files([folder]))
    handle.wait(60)
    (first,) = handle.download(tmp_path / "first")
    httpx.post(f"{url}/v1/jobs/{handle.id}/retry").raise_for_status()
    again = client.job(handle.id)
    again.wait(60)
    assert 2 == again.document.run
    (second,) = again.download(tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()


def test_a_job_is_forgotten_with_all_that_it_had(client, url, folder):
    """410 from the very answer on, in every list too; and other jobs stay."""
    handles = [client.submit("digest-files", files=find_files([folder]), tags=["to-forget"]) for _ in range(2)]
    for handle in handles:
        handle.wait(60)
    gone, kept = (f"{url}/v1/jobs/{handle.id}" for handle in handles)
    assert 204 == httpx.delete(gone).status_code
    for path in ("", "/result", "/outputs/SHA256SUMS", "/events"):
        assert 410 == httpx.get(gone + path).status_code
    assert 200 == httpx.get(kept).status_code
    listed = httpx.get(f"{url}/v1/jobs", params={"tag": "to-forget"}).json()["items"]
    assert [handles[1].id] == [one["id"] for one in listed]
