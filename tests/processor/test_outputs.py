"""What handlers write, and results that are too large to travel."""

import hashlib

import pytest
from odd_handlers import FIRST, command
from samples import SUBMITTED

from milepost_contracts.envelope import encode
from milepost_contracts.events import decode_event
from milepost_contracts.values import MAX_RESULT
from milepost_processor.files import BlobFiles


def test_a_result_that_is_too_large_to_travel_is_kept_as_a_file(executor, outbox, files):
    """The event says where, and stays small."""
    executor.execute(command("large"), FIRST)
    ended = outbox.events[-1]
    assert ("job.succeeded", None) == (ended.fact, ended.job.result)
    ref = ended.job.result_file
    assert ("result.json", "application/json", MAX_RESULT + 2) == (ref.name, ref.media_type, ref.size)
    assert b'"' + b"x" * MAX_RESULT + b'"' == files.stored["result.json"]
    assert ended == decode_event(encode(ended))


def test_a_result_that_can_not_be_stored_is_tried_again(executor, outbox, files):
    """The storage may be away for a while; and it is told when it stays away."""
    files.away = True
    executor.execute(command("large"), FIRST)
    assert "job.retrying" == outbox.events[-1].fact
    executor.execute(outbox.events[-1], FIRST)
    ended = outbox.events[-1]
    assert ("job.failed", "OSError") == (ended.fact, ended.job.error.exception)


def test_what_a_handler_writes_goes_with_its_end(executor, outbox):
    """By name, with the media type that the name tells."""
    executor.execute(command("files", do="write"), FIRST)
    ended = outbox.events[-1]
    assert [("a/report.csv", "text/csv", 3)] == [(one.name, one.media_type, one.size) for one in ended.job.outputs]
    assert {"n": 1} == ended.job.result


def test_a_handler_may_write_its_result(executor, outbox):
    """Of any media type; then it returns nothing."""
    executor.execute(command("files", do="write-result"), FIRST)
    job = outbox.events[-1].job
    assert (None, "image/png", ()) == (job.result, job.result_file.media_type, job.outputs)


def test_two_results_are_none(executor, outbox):
    """A handler that writes one and returns another must choose."""
    executor.execute(command("files", do="write-both"), FIRST)
    assert "invalid-result" == outbox.events[-1].job.error.kind


def test_a_file_that_was_not_finished_does_not_count(executor, outbox, files):
    """The handler failed in the middle of it."""
    executor.execute(command("files", do="write-half"), FIRST)
    assert ("job.failed", ()) == (outbox.events[-1].fact, outbox.events[-1].job.outputs)
    assert {} == files.stored


# In a folder.


@pytest.fixture
def folder(tmp_path):
    return BlobFiles(tmp_path.as_uri(), namespace="milepost")


def test_what_is_written_is_in_the_storage_whole_with_its_digest(folder, tmp_path):
    """However large it is, and in whatever pieces it comes."""
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


def test_two_executions_of_a_job_write_beside_each_other(folder):
    """A stale one can't change what the other has written."""
    jobs = [SUBMITTED.model_copy(update={"execution": execution}) for execution in ("0000000a", "0000000b")]
    keys = set()
    for job in jobs:
        outputs = folder.outputs(job)
        with outputs.create("same", media_type="text/plain", as_result=False) as file:
            file.write(job.execution.encode())
        keys.add(outputs.written[0].key)
        assert job.execution.encode() == folder.open(outputs.written[0]).open().read()
    assert 2 == len(keys)


def test_what_is_half_written_does_not_stay(folder, tmp_path):
    """Nobody lists it, and nobody would ever remove it."""
    outputs = folder.outputs(SUBMITTED.model_copy(update={"execution": "0000abcd"}))

    def write():
        with outputs.create("big", media_type="text/plain", as_result=False) as file:
            file.write(b"x" * 3_000_000)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        write()
    assert () == outputs.written
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]
