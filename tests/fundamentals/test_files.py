"""Files in, and files out.

A client submits files as `multipart/form-data`: a part `job` with the JSON, and a part `file` for each file. Messages
carry their names, sizes and digests only; the bytes are in file storage, where the handler reads and writes them.

The document lists the files that the handler wrote under `outputs`, each with its SHA-256 and the URL to download it.
A result over 64 KiB is a download too. Downloads can be resumed with `Range`. With a job, its files are deleted.
"""

from hashlib import sha256
from pathlib import Path

from problem_answers import problem

HERE = Path(__file__).parent
TWO_FILES = [
    ("job", (None, '{"type": "digest-files"}', "application/json")),
    ("file", ("letters/a.txt", b"one two\n", "text/plain")),
    ("file", ("letters/b.txt", b"three\n", "text/plain")),
]
SHA256SUMS = (
    "2dbb4a503f1515636b6a54e7f5b1a8ccfddcb62f0571c8b57a2879c360d00346  letters/a.txt\n"
    "f6936912184481f5edd4c304ce27c5a1a827804fc7f329f43d273b8621870776  letters/b.txt\n"
)


def test_the_handler_gets_the_files_that_were_submitted(http, wait_for):
    """All of them, with their names and bytes: here the source files of these tests."""
    paths = sorted(HERE.glob("*.py"))
    contents = [path.read_bytes() for path in paths]
    job = ("job", (None, '{"type": "digest-files", "tags": ["fundamentals"]}', "application/json"))
    files = [("file", (path.name, path.read_bytes(), "text/x-python")) for path in paths]
    submitted = http.post("/v1/jobs", files=[job, *files])
    assert (202, "queued", "digest-files") == (
        submitted.status_code,
        submitted.json()["status"],
        submitted.json()["type"],
    )

    document = wait_for(submitted.headers["location"])
    assert ("succeeded", ["fundamentals"]) == (document["status"], document["tags"])
    assert [
        {"name": path.name, "size": len(content), "digest": sha256(content).hexdigest(), "media_type": "text/x-python"}
        for path, content in zip(paths, contents, strict=True)
    ] == document["files"]
    result = document["result"]
    size, lines = sum(map(len, contents)), b"".join(contents).count(b"\n")
    assert result | {"files": len(paths), "size": size, "lines": lines} == result
    last = document["items"]["last"][-1]
    assert last | {"name": paths[-1].name, "sha256": sha256(contents[-1]).hexdigest()} == last


def test_what_the_handler_wrote_can_be_downloaded(http, wait_for):
    """Under the URL in `outputs`, complete or in parts."""
    document = wait_for(http.post("/v1/jobs", files=TWO_FILES).headers["location"])
    assert [
        {
            "name": "SHA256SUMS",
            "size": len(SHA256SUMS),
            "digest": sha256(SHA256SUMS.encode()).hexdigest(),
            "media_type": "text/plain",
            "url": f"/v1/jobs/{document['id']}/outputs/SHA256SUMS",
        }
    ] == document["outputs"]
    url = document["outputs"][0]["url"]
    whole = http.get(url)
    assert (200, "text/plain", SHA256SUMS) == (whole.status_code, whole.headers["content-type"], whole.text)
    part = http.get(url, headers={"Range": "bytes=66-78"})
    assert (206, "letters/a.txt") == (part.status_code, part.text)


def test_a_large_result_is_a_download(http, wait_for):
    """The document stays small: `result` is null, and `result_file` describes what `/result` answers."""
    submitted = http.post("/v1/jobs", json={"type": "echo", "params": {"text": "0123456789", "times": 1000}})
    small = wait_for(submitted.headers["location"])
    assert ({"text": "0123456789" * 1000}, None) == (small["result"], small["result_file"])

    submitted = http.post("/v1/jobs", json={"type": "echo", "params": {"text": "0123456789" * 10, "times": 1000}})
    large = wait_for(submitted.headers["location"])
    answer = http.get(large["links"]["result"])
    assert {"text": "0123456789" * 10_000} == answer.json()
    assert (None, len(answer.content)) == (large["result"], large["result_file"]["size"])
    assert sha256(answer.content).hexdigest() == large["result_file"]["digest"]


def test_a_deleted_job_is_gone_with_its_files(http, wait_for):
    """410 from the answer on: the id is not unknown, what it named is gone."""
    location = http.post("/v1/jobs", files=TWO_FILES).headers["location"]
    document = wait_for(location)
    assert 204 == http.delete(location).status_code
    problem(http.get(location), 410, "job-expired")
    problem(http.get(document["outputs"][0]["url"]), 410, "job-expired")
