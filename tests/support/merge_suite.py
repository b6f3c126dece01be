"""The merge law as a conformance suite. The pure function passes it, and so does the Lua script in a real Redis."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from job_histories import EPOCH, deletions, deliveries, ended_events, histories, job_events

from milepost_contracts.messages.job_events import AnyJobMessage, JobDeleted, JobEvent, JobFailed, JobProgressed
from milepost_contracts.states import Status
from milepost_contracts.status.ends import inferred
from milepost_contracts.values import MAX_STATED_DELIVERY

#: Takes batches of events of one job, in order, and returns its document without the version, or None.
Fold = Callable[[Iterable[Sequence[AnyJobMessage]]], dict[str, Any] | None]

RELAXED = settings(
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,  # the fixture holds a connection, no state of an example
        HealthCheck.too_slow,  # Redis is real
        HealthCheck.differing_executors,  # one suite for two implementations is the point
    ],
)


def one_by_one(events: Iterable[AnyJobMessage]) -> list[list[AnyJobMessage]]:
    return [[event] for event in events]


class MergeLaw:
    """Subclasses implement `fold`."""

    def fold(self, batches: Iterable[Sequence[AnyJobMessage]]) -> dict[str, Any] | None:
        raise NotImplementedError

    @RELAXED
    @given(deliveries(), st.data())
    def test_any_permutation_and_duplication_gives_the_same_view(
        self, history_and_delivered: tuple[list[AnyJobMessage], list[AnyJobMessage]], data: st.DataObject
    ) -> None:
        """The document does not depend on how the broker orders, repeats and batches the messages of a job."""
        history, delivered = history_and_delivered
        cut = data.draw(st.integers(0, len(delivered)))
        expected = self.fold(one_by_one(history))
        assert expected == self.fold(one_by_one(delivered))
        assert expected == self.fold([batch for batch in (delivered[:cut], delivered[cut:]) if batch])

    @RELAXED
    @given(histories(), job_events())
    def test_an_event_that_sorts_before_the_latest_changes_nothing(
        self, history: list[AnyJobMessage], late: JobEvent
    ) -> None:
        """Stale attempts, late progress and earlier runs are fenced out, whenever they arrive."""
        states = [event for event in history if isinstance(event, JobEvent)]
        assume(bool(states) and late.sequence <= max(event.sequence for event in states))
        assume(late.sequence not in {event.sequence for event in states})
        assert self.fold(one_by_one(history)) == self.fold(one_by_one([*history, late]))

    @RELAXED
    @given(histories(), ended_events())
    def test_progress_after_the_end_of_its_execution_changes_nothing(
        self, history: list[AnyJobMessage], ended: JobEvent
    ) -> None:
        """A progress event that arrives after the outcome does not reopen the job."""
        job = ended.job.model_copy(update={"step": ended.job.step + 7, "finished_at": None, "error": None})
        late = JobProgressed(job=job, time=EPOCH)
        before = self.fold(one_by_one([*history, ended]))
        assert before == self.fold(one_by_one([*history, ended, late]))

    @RELAXED
    @given(histories(with_deletions=True), deletions(), st.data())
    def test_only_a_later_run_brings_a_deleted_job_back(
        self, history: list[AnyJobMessage], deletion: JobDeleted, data: st.DataObject
    ) -> None:
        """Wherever among the events the deletion arrives."""
        at = data.draw(st.integers(0, len(history)))
        document = self.fold(one_by_one([*history[:at], deletion, *history[at:]]))
        assert document is None or document["run"] > deletion.request.run

    @RELAXED
    @given(histories(), ended_events())
    def test_nothing_of_the_same_run_undoes_success_or_cancel(
        self, history: list[AnyJobMessage], ended: JobEvent
    ) -> None:
        """After success or cancellation, no failure, retry or progress of that run or an earlier one shows."""
        assume(ended.status.absorbing)
        last_run = ended.model_copy(update={"job": ended.job.model_copy(update={"run": 2})})
        document = self.fold(one_by_one([last_run, *history]))
        assert document is not None
        assert Status(document["status"]).absorbing

    @RELAXED
    @given(histories(), job_events(kinds=[JobFailed]), st.integers(0, MAX_STATED_DELIVERY))
    def test_nothing_of_the_same_run_undoes_a_failure_but_success_or_cancel(
        self, history: list[AnyJobMessage], failed: JobEvent, delivery: int
    ) -> None:
        """Over means over: whatever delivery number a later start, retry or put-back of the run has."""
        later = [
            one.model_copy(update={"job": one.job.model_copy(update={"delivery": delivery})})
            for one in history
            if isinstance(one, JobEvent)
        ]
        last_run = failed.model_copy(update={"job": failed.job.model_copy(update={"run": 2})})
        document = self.fold(one_by_one([last_run, *history, *later]))
        assert document is not None
        assert Status(document["status"]).terminal

    @RELAXED
    @given(histories(), job_events(kinds=[JobFailed]))
    def test_nothing_but_success_or_cancel_undoes_an_inferred_end(
        self, history: list[AnyJobMessage], failed: JobEvent
    ) -> None:
        """No reader sees a job run again that a tracker has ended as lost, whatever comes late."""
        changes = {"run": 2, "delivery": inferred(failed.job.delivery)}
        lost = failed.model_copy(update={"job": failed.job.model_copy(update=changes)})
        document = self.fold(one_by_one([lost, *history]))
        assert document is not None
        assert Status(document["status"]).terminal
