"""What the SDK does, whatever gateway is behind it: the one in memory passes it, and so does a whole stack."""

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
    """Subclasses have the fixtures that it asks for.

    `client`, `tag` (nobody else's), `endless` (the type and params of a job that goes on until it is canceled) and
    `failing` (of one that fails).
    """

    def test_a_result_is_typed(self, client):
        """By a model, or by anything that pydantic reads."""
        handle = client.submit("count", {"steps": 3, "delay": 0})
        assert Counted(counted=3) == handle.result(Counted)
        assert {"counted": 3} == handle.result(dict[str, int])
        assert {"counted": 3} == handle.result()
        with pytest.raises(ValueError, match="counted"):
            handle.result(dict[str, bool])

    def test_a_watch_shows_a_job_to_its_end(self, client):
        """First as it is, last as it ended; the versions only grow."""
        seen = list(client.submit("count", {"steps": 3, "delay": 0.05}).watch())
        assert Status.SUCCEEDED == seen[-1].status
        assert {"counted": 3} == seen[-1].result
        assert sorted(one.version for one in seen) == [one.version for one in seen]
        assert any(one.progress and one.progress.done for one in seen)
        assert not any(one.status.terminal for one in seen[:-1])

    def test_a_watch_can_be_left(self, client, endless):
        """The job goes on; a `with` or a `del` is not needed."""
        handle = client.submit(*endless)
        for document in handle.watch():
            if document.status is Status.RUNNING:
                break
        assert Status.RUNNING == client.job(handle.id).document.status
        handle.cancel()

    def test_a_wait_ends_in_time(self, client, endless):
        """With or without the job."""
        handle = client.submit(*endless)
        with pytest.raises(StillRunning):
            handle.wait(timeout=1.0)
        handle.cancel()
        assert Status.CANCELED == handle.wait(timeout=30).status
        with pytest.raises(JobCanceled):
            handle.result()

    def test_many_jobs_are_watched_together(self, client):
        """Over one connection, each to its end."""
        handles = [client.submit("count", {"steps": steps, "delay": 0.05}) for steps in (1, 4, 2)]
        changed = [(handle.id, handle.document.status) for handle in client.watch(*handles)]
        assert {(handle.id, Status.SUCCEEDED) for handle in handles} <= set(changed)
        assert [1, 4, 2] == [handle.document.result["counted"] for handle in handles]

    def test_a_failed_job_says_why(self, client, failing):
        """`wait` reports, `result` insists."""
        handle = client.submit(*failing)
        assert Status.FAILED == handle.wait(timeout=30).status
        with pytest.raises(JobFailed) as caught:
            handle.result()
        assert caught.value.document.error.message

    def test_an_ended_job_runs_again(self, client):
        """The same id, another run."""
        handle = client.submit("count", {"steps": 1, "delay": 0})
        handle.wait(timeout=30)
        assert 2 == handle.retry().run
        assert {"counted": 1} == handle.result(timeout=30)
        assert 2 == client.job(handle.id).document.run

    def test_the_same_key_is_the_same_job(self, client, tag):
        """Also from another process."""
        first = client.submit("count", {"steps": 1}, idempotency_key=tag)
        assert first.id == client.submit("count", {"steps": 1}, idempotency_key=tag).id
        assert first.id != client.submit("count", {"steps": 1}).id

    def test_many_are_handed_over_and_followed_as_one(self, client, tag):
        """Those that are refused say why, and which they are."""
        jobs = [Submission(type="count", params={"steps": n, "delay": 0}, tags=[tag]) for n in range(5)]
        group = client.submit_many([*jobs[:2], Submission(type="nothing-of-the-kind"), *jobs[2:]])
        assert [2] == [refusal.index for refusal in group.refused]
        assert group.refused[0].problem.type.endswith("#unknown-job-type")
        status = group.wait(timeout=30)
        assert (5, 5, 100.0, {Status.SUCCEEDED: 5}) == (status.size, status.ended, status.percent, status.counts)
        assert {0, 1, 2, 3, 4} == {one.result["counted"] for one in group.documents()}
        assert 5 == len(list(client.jobs(tag=tag)))
        assert None is group.job_ids[2]
        assert status == client.group(*group.batch_ids).refresh()

    def test_none_of_many_is_none(self, client):
        """An empty list is no mistake."""
        assert (0, True) == ((status := client.submit_many([]).wait()).size, status.done)

    def test_what_does_not_fit_is_refused(self, client):
        """Before anything runs."""
        with pytest.raises(Refused):
            client.submit("nothing-of-the-kind")
        with pytest.raises(JobNotFound):
            client.job("0" * 40)
