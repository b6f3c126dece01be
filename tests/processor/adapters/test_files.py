"""Output files of handlers, and results that are too large for an event."""

import hashlib
import pickle
import subprocess
import sys

import pytest
from odd_handlers import FIRST, command
from samples import SUBMITTED

from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import decode_event
from milepost_contracts.values import MAX_RESULT
from milepost_processor.adapters.files import BlobFiles


def test_a_result_that_is_too_large_for_an_event_is_stored_as_a_file(runner, publisher, files):
    """The event has a reference to it, and stays small."""
    runner.execute(command("large"), FIRST)
    ended = publisher.events[-1]
    assert ("job.succeeded", None) == (ended.fact, ended.job.result)
    ref = ended.job.result_file
    assert ("result.json", "application/json", MAX_RESULT + 2) == (ref.name, ref.media_type, ref.size)
    assert b'"' + b"x" * MAX_RESULT + b'"' == files.stored["result.json"]
    assert ended == decode_event(encode(ended))


def test_a_failure_to_store_a_result_is_retried(runner, publisher, files):
    """If the storage stays unavailable, the job fails with the reason."""
    files.away = True
    runner.execute(command("large"), FIRST)
    assert "job.retrying" == publisher.events[-1].fact
    runner.execute(publisher.events[-1], FIRST)
    ended = publisher.events[-1]
    assert ("job.failed", "OSError") == (ended.fact, ended.job.error.exception)


def test_output_files_are_in_the_terminal_event(runner, publisher):
    """Each has its name, and the media type that belongs to its extension."""
    runner.execute(command("files", do="write"), FIRST)
    ended = publisher.events[-1]
    assert [("a/report.csv", "text/csv", 3)] == [(one.name, one.media_type, one.size) for one in ended.job.outputs]
    assert {"n": 1} == ended.job.result


def test_a_handler_can_write_its_result_to_a_file(runner, publisher):
    """The file may have any media type; the handler returns nothing then."""
    runner.execute(command("files", do="write-result"), FIRST)
    job = publisher.events[-1].job
    assert (None, "image/png", ()) == (job.result, job.result_file.media_type, job.outputs)


def test_a_written_and_a_returned_result_are_invalid(runner, publisher):
    """The job fails with `invalid-result`."""
    runner.execute(command("files", do="write-both"), FIRST)
    assert "invalid-result" == publisher.events[-1].job.error.kind


def test_an_incomplete_file_is_not_an_output(runner, publisher, files):
    """The handler failed while it wrote the file."""
    runner.execute(command("files", do="write-half"), FIRST)
    assert ("job.failed", ()) == (publisher.events[-1].fact, publisher.events[-1].job.outputs)
    assert {} == files.stored


@pytest.fixture
def folder(tmp_path):
    return BlobFiles(tmp_path.as_uri(), namespace="milepost")


def test_an_output_file_is_stored_completely_with_its_digest(folder, tmp_path):
    """This holds for any size, and for writes of any length."""
    job = SUBMITTED.model_copy(update={"execution": "0000abcd"})
    outputs = folder.outputs(job)
    content = b"0123456789" * 500_000
    with outputs.create("big", media_type="text/plain", as_result=False) as file:
        for at in range(0, len(content), 70_001):
            file.write(content[at : at + 70_001])
    with outputs.create("empty", media_type="text/plain", as_result=True) as file:
        file.close()  # handlers may
    (big,) = outputs.written
    assert (len(content), hashlib.sha256(content).hexdigest()) == (big.size, big.digest)
    assert content == (tmp_path / "milepost" / big.key).read_bytes() == folder.open(big).open().read()
    assert f"jobs/{job.id}/0000abcd/0001" == outputs.result.key
    assert b"" == (tmp_path / "milepost" / outputs.result.key).read_bytes()


def test_two_executions_of_a_job_write_to_separate_keys(folder):
    """A stale execution cannot change what the other one has written."""
    jobs = [SUBMITTED.model_copy(update={"execution": execution}) for execution in ("0000000a", "0000000b")]
    keys = set()
    for job in jobs:
        outputs = folder.outputs(job)
        with outputs.create("same", media_type="text/plain", as_result=False) as file:
            file.write(job.execution.encode())
        keys.add(outputs.written[0].key)
        assert job.execution.encode() == folder.open(outputs.written[0]).open().read()
    assert 2 == len(keys)


def test_an_incomplete_file_is_removed(folder, tmp_path):
    """No event lists it, so nothing would remove it later."""
    outputs = folder.outputs(SUBMITTED.model_copy(update={"execution": "0000abcd"}))

    def write():
        with outputs.create("big", media_type="text/plain", as_result=False) as file:
            file.write(b"x" * 3_000_000)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        write()
    assert () == outputs.written
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]


def test_each_stored_state_is_a_file_of_its_own(folder, tmp_path):
    """An event or a claim may still refer to the one before; removing one that is gone is harmless."""
    outputs = folder.outputs(SUBMITTED.model_copy(update={"execution": "0000abcd"}))
    first, second = outputs.store_state(b"1"), outputs.store_state(b"[2]")
    assert (b"1", b"[2]") == (folder.open(first).open().read(), folder.open(second).open().read())
    outputs.remove(first)
    outputs.remove(first)
    with pytest.raises(FileNotFoundError), folder.open(first).open() as file:
        file.read()
    assert b"[2]" == folder.open(second).open().read()
    assert 1 == len([path for path in tmp_path.rglob("*") if path.is_file()])


FORK = """
import os, sys
from milepost_contracts.values import FileRef, Job
from milepost_processor.adapters.files import BlobFiles

files = BlobFiles(sys.argv[1], namespace="milepost")
file = files.open(FileRef(name="a", size=3, key="a"))
stream = file.open()
print(file.open().read().decode())
if os.fork() == 0:
    for call in (file.open, stream.read):
        try:
            call()
        except RuntimeError as error:
            print(error, flush=True)
    os._exit(0)
os.wait()
print(stream.read().decode())
"""


def test_a_forked_process_gets_an_error_instead_of_waiting_for_ever(folder, tmp_path):
    """The threads that read files exist only in the parent. What to do instead is in the message."""
    (tmp_path / "milepost" / "a").parent.mkdir()
    (tmp_path / "milepost" / "a").write_bytes(b"abc")
    command = [sys.executable, "-W", "ignore", "-c", FORK, tmp_path.as_uri()]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert ["abc", "abc"] == [lines[0], lines[-1]]
    assert [True, True] == ['multiprocessing.get_context("spawn")' in line for line in lines[1:-1]]


def test_a_file_can_be_read_by_a_process_that_is_not_forked(folder, tmp_path):
    """It can be pickled, as an argument for `multiprocessing`."""
    outputs = folder.outputs(SUBMITTED)
    with outputs.create("a", media_type="text/plain", as_result=False) as file:
        file.write(b"abc")
    pickled = pickle.dumps(folder.open(outputs.written[0]))
    assert b"abc" == pickle.loads(pickled).open().read()  # noqa: S301 - pickled above
