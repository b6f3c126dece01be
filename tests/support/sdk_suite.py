"""Conformance suite of the SDK: it passes against the gateway in memory and against a whole stack."""

import pytest
from pydantic import BaseModel

from milepost_client import (
    JobCanceled,
    JobFailed,
    JobNotFound,
    Refused,
    Status,
    StillRunning,
    Submission,
)


class Counted(BaseModel):
    counted: int


class SdkSuite:
    """Subclasses provide the fixtures.

    `client`, `tag` (unique), `endless` (the type and params of a job that runs until it is canceled) and `failing`
    (of a job that fails).
    """

    def test_a_result_is_validated_by_its_type(self, client):
        """A model, or any type that pydantic validates."""
        handle = client.submit("count", {"steps": 3, "delay": 0})
        assert Counted(counted=3) == handle.result(Counted)
        assert {"counted": 3} == handle.result(dict[str, int])
        assert {"counted": 3} == handle.result()
        with pytest.raises(ValueError, match="counted"):
            handle.result(dict[str, bool])

    def test_a_watch_yields_documents_until_the_job_has_ended(self, client):
        """The last one is terminal, and the versions grow."""
        documents = list(client.submit("count", {"steps": 3, "delay": 0.05}).watch())
        assert Status.SUCCEEDED == documents[-1].status
        assert {"counted": 3} == documents[-1].result
        assert sorted(document.version for document in documents) == [document.version for document in documents]
        assert any(document.progress and document.progress.done for document in documents)
        assert not any(document.status.terminal for document in documents[:-1])

    def test_leaving_a_watch_does_not_end_the_job(self, client, endless):
        """No `with` or `del` is needed."""
        handle = client.submit(*endless)
        for document in handle.watch():
            if document.status is Status.RUNNING:
                break
        assert Status.RUNNING == client.job(handle.id).document.status
        handle.cancel()

    def test_a_wait_has_a_timeout(self, client, endless):
        """StillRunning if the job has not ended by then."""
        handle = client.submit(*endless)
        with pytest.raises(StillRunning):
            handle.wait(timeout=1.0)
        handle.cancel()
        assert Status.CANCELED == handle.wait(timeout=30).status
        with pytest.raises(JobCanceled):
            handle.result()

    def test_many_jobs_are_watched_together(self, client):
        """Over one connection, each until it has ended."""
        handles = [client.submit("count", {"steps": steps, "delay": 0.05}) for steps in (1, 4, 2)]
        changed = [(handle.id, handle.document.status) for handle in client.watch(*handles)]
        assert {(handle.id, Status.SUCCEEDED) for handle in handles} <= set(changed)
        assert [1, 4, 2] == [handle.document.result["counted"] for handle in handles]

    def test_a_failed_job_has_an_error_message(self, client, failing):
        """`wait` returns its status, `result` raises."""
        handle = client.submit(*failing)
        assert Status.FAILED == handle.wait(timeout=30).status
        with pytest.raises(JobFailed) as caught:
            handle.result()
        assert caught.value.document.error.message

    def test_an_ended_job_can_be_retried(self, client):
        """As a new run with the same id."""
        handle = client.submit("count", {"steps": 1, "delay": 0})
        handle.wait(timeout=30)
        assert 2 == handle.retry().run
        assert {"counted": 1} == handle.result(timeout=30)
        assert 2 == client.job(handle.id).document.run

    def test_a_repeated_key_returns_the_same_job(self, client, tag):
        """Without a key, each submission is a new job."""
        first = client.submit("count", {"steps": 1}, idempotency_key=tag)
        assert first.id == client.submit("count", {"steps": 1}, idempotency_key=tag).id
        assert first.id != client.submit("count", {"steps": 1}).id

    def test_many_jobs_are_submitted_and_awaited_as_a_group(self, client, tag):
        """Each refusal has the index of its submission and the problem."""
        jobs = [Submission(type="count", params={"steps": n, "delay": 0}, tags=[tag]) for n in range(5)]
        group = client.submit_many([*jobs[:2], Submission(type="nothing-of-the-kind"), *jobs[2:]])
        assert [2] == [refusal.index for refusal in group.refused]
        assert group.refused[0].problem.type.endswith("#unknown-job-type")
        status = group.wait(timeout=30)
        assert (5, 5, 100.0, {Status.SUCCEEDED: 5}) == (status.size, status.ended, status.percent, status.counts)
        assert {0, 1, 2, 3, 4} == {document.result["counted"] for document in group.documents()}
        assert 5 == len(list(client.jobs(tag=tag)))
        assert None is group.job_ids[2]
        assert status == client.group(*group.batch_ids).refresh()

    def test_an_empty_group_is_done(self, client):
        """An empty list is no error."""
        assert (0, True) == ((status := client.submit_many([]).wait()).size, status.done)

    def test_an_unknown_type_or_job_raises(self, client):
        """Refused for the type, JobNotFound for the id."""
        with pytest.raises(Refused):
            client.submit("nothing-of-the-kind")
        with pytest.raises(JobNotFound):
            client.job("0" * 40)
