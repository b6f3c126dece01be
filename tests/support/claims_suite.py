"""Conformance suite for claims. The fake of the unit tests passes it, and so does the Lua script in a real Redis."""

from datetime import timedelta
from typing import Any

import pytest
from samples import AT, ID, JUST_SUBMITTED

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import JobEvent, JobFailed, JobInterrupted, JobRetrying, JobSucceeded
from milepost_contracts.values import Attempt, FileRef, Job, JobError
from milepost_processor.ports.claims import Claim, Claims, ResumePoint, Verdict

FILE = FileRef(name="a.csv", size=3, key=f"jobs/{ID}/0000000a/0000", digest="0" * 64, media_type="text/csv")
POINT = ResumePoint(saved_state={"at": [7, None]}, outputs=(FILE,), result_file=FILE)


def outcome(kind: type[JobEvent], job: Job) -> JobEvent:
    """Build an outcome of an execution."""
    error = JobError(kind="exception", message="no") if kind is JobFailed else None
    finished_at = AT if kind.status.terminal else None
    changes = {"finished_at": finished_at, "error": error, "run_at": AT if kind is JobRetrying else None}
    return kind(job=job.model_copy(update=changes))


class ClaimsSuite:
    """Subclasses provide a fixture `claims` without any claim, and let the holder of a claim expire."""

    def expire_holder(self, claims: Claims) -> None:
        """Make the holder of the claim one whose last heartbeat is too old."""
        raise NotImplementedError

    def renew_holder(self, claims: Claims) -> None:
        """Make the holder of the claim one that has just sent a heartbeat."""
        raise NotImplementedError

    def claim(
        self,
        claims: Claims,
        *,
        run: int = 1,
        delivery: int = 1,
        execution: str = "aaaaaaaa",
        message: Job = JUST_SUBMITTED,
    ) -> Claim:
        self.expire_holder(claims)
        return claims.claim(message.model_copy(update={"run": run}), delivery=delivery, execution=execution, worker="w")

    def ask(self, claims: Claims, **arguments: Any) -> Verdict:
        return self.claim(claims, **arguments).verdict

    @staticmethod
    def executed(**changes: Any) -> Job:
        """Return the job as its first execution has it, with changes."""
        attempt = Attempt(number=1, worker="w", started_at=AT)
        first = {"delivery": 1, "execution": "aaaaaaaa", "attempt": 1, "attempts": (attempt,), "worker": "w"}
        return JUST_SUBMITTED.model_copy(update=first | changes)

    def record(self, claims: Claims, kind: type[JobEvent] = JobFailed, **changes: Any) -> JobEvent | None:
        """Record an outcome, and return the event to publish."""
        return claims.end(self.executed(**changes), outcome(kind, self.executed(**changes)))

    def end(self, claims: Claims, kind: type[JobEvent] = JobFailed, **changes: Any) -> JobEvent:
        """Record an outcome, and its confirm."""
        recorded = self.record(claims, kind, **changes)
        assert recorded is not None
        claims.confirm([recorded])
        return recorded

    def test_a_job_without_a_holder_is_run(self, claims: Claims) -> None:
        """Claiming it again for the same execution changes nothing."""
        assert Verdict.RUN == self.ask(claims)
        assert Verdict.RUN == self.ask(claims)

    def test_a_job_that_was_not_started_in_time_is_expired(self, claims: Claims) -> None:
        """By the clock of the claims. Once it was started, its next attempt may begin at any time."""
        late = JUST_SUBMITTED.model_copy(update={"start_within": timedelta(hours=1), "created_at": AT})
        assert Verdict.EXPIRED == self.ask(claims, message=late)
        assert Verdict.RUN == self.ask(claims, message=late.model_copy(update={"run_at": now()}))
        assert Verdict.RUN == self.ask(claims, delivery=2, execution="bbbbbbbb", message=late)

    def test_a_redelivery_takes_the_claim_over(self, claims: Claims) -> None:
        """The earlier holder is gone, or will be fenced."""
        self.ask(claims)
        assert Verdict.RUN == self.ask(claims, delivery=2, execution="bbbbbbbb")

    def test_a_stale_attempt_does_not_take_the_claim_back(self, claims: Claims) -> None:
        """Its late claim gets STALE."""
        self.ask(claims, delivery=2)
        assert Verdict.STALE == self.ask(claims, delivery=1, execution="bbbbbbbb")

    def test_a_duplicate_of_a_running_job_is_not_run(self, claims: Claims) -> None:
        """Of two messages of one job, the second gets TAKEN."""
        self.ask(claims)
        assert Verdict.TAKEN == self.ask(claims, execution="bbbbbbbb")

    def test_a_finished_job_is_never_run_again(self, claims: Claims) -> None:
        """Even if its message is delivered again."""
        self.ask(claims)
        self.end(claims)
        assert Verdict.FINISHED == self.ask(claims, delivery=2, execution="bbbbbbbb")

    def test_a_later_run_of_a_finished_job_is_run(self, claims: Claims) -> None:
        """A manual retry is a new run of the same job; from then on, the old run is stale."""
        self.ask(claims)
        self.end(claims)
        assert Verdict.RUN == self.ask(claims, run=2, execution="cccccccc")
        assert Verdict.STALE == self.ask(claims, delivery=9, execution="dddddddd")

    def test_finishing_an_earlier_run_does_not_end_a_later_one(self, claims: Claims) -> None:
        """A stale execution of run 1 can't end run 2."""
        self.ask(claims, run=2)
        assert self.record(claims) is None
        assert Verdict.RUN == self.ask(claims, run=2, delivery=2, execution="bbbbbbbb")

    def test_a_job_that_ran_without_a_claim_can_be_finished(self, claims: Claims) -> None:
        """Claims were unavailable at its start, and available again at its end."""
        self.end(claims)
        assert Verdict.FINISHED == self.ask(claims)

    def test_the_failure_of_a_stale_attempt_does_not_end_the_job(self, claims: Claims) -> None:
        """A later attempt is running; if it is lost, the next one must run."""
        self.ask(claims, delivery=2, execution="bbbbbbbb")
        assert self.record(claims, delivery=1) is None
        assert Verdict.RUN == self.ask(claims, delivery=3, execution="cccccccc")

    def test_the_success_of_a_stale_attempt_ends_the_job(self, claims: Claims) -> None:
        """Success is absorbing: nothing is left to do."""
        self.ask(claims, delivery=2)
        self.end(claims, JobSucceeded, delivery=1)
        assert Verdict.FINISHED == self.ask(claims, delivery=3, execution="bbbbbbbb")

    def test_the_next_claim_knows_of_a_lost_attempt(self, claims: Claims) -> None:
        """The message can't: the processor died before it could publish anything."""
        first = self.claim(claims)
        assert (1, ()) == (first.attempt, first.earlier)
        second = self.claim(claims, delivery=2, execution="bbbbbbbb")
        assert (2, [1]) == (second.attempt, [attempt.number for attempt in second.earlier])
        assert ("w", None) == (second.earlier[0].worker, second.earlier[0].ended_at)
        third = self.claim(claims, delivery=3, execution="cccccccc")
        assert (3, [1, 2]) == (third.attempt, [attempt.number for attempt in third.earlier])

    def test_the_attempts_in_the_message_take_precedence(self, claims: Claims) -> None:
        """A retry is a new message, published after the attempt before it ended, so no attempt was lost in between."""
        self.claim(claims)
        attempt = Attempt(number=1, worker="v", started_at=AT, ended_at=AT, why="ValueError: no")
        retried = {"delivery": 1, "execution": "aaaaaaaa", "attempt": 1, "attempts": (attempt,)}
        message = JUST_SUBMITTED.model_copy(update=retried)
        again = self.claim(claims, delivery=2, execution="bbbbbbbb", message=message)
        assert (Verdict.RUN, 2, (attempt,)) == (again.verdict, again.attempt, again.earlier)

    def test_the_next_claim_gets_what_a_lost_attempt_has_kept(self, claims: Claims) -> None:
        """And so does the one after it, until something newer is kept."""
        mine = JUST_SUBMITTED.model_copy(update={"delivery": 1, "execution": "aaaaaaaa"})
        assert self.claim(claims).resume_point is None
        assert claims.keep(mine, POINT)
        assert POINT == self.claim(claims, delivery=2, execution="bbbbbbbb").resume_point
        assert POINT == self.claim(claims, delivery=3, execution="cccccccc").resume_point
        later = ResumePoint(saved_state=8)
        assert claims.keep(JUST_SUBMITTED.model_copy(update={"delivery": 3, "execution": "cccccccc"}), later)
        assert later == self.claim(claims, delivery=4, execution="dddddddd").resume_point

    def test_a_postponed_message_gets_what_was_kept(self, claims: Claims) -> None:
        """It was published by no attempt: it tells only that the job was delivered again meanwhile."""
        self.claim(claims)
        assert claims.keep(JUST_SUBMITTED.model_copy(update={"delivery": 1, "execution": "aaaaaaaa"}), POINT)
        postponed = JUST_SUBMITTED.model_copy(update={"delivery": 2})
        assert POINT == self.claim(claims, delivery=3, execution="bbbbbbbb", message=postponed).resume_point

    def test_a_new_message_takes_precedence_over_what_was_kept(self, claims: Claims) -> None:
        """The attempt published what it had; a crash later brings nothing back."""
        mine = JUST_SUBMITTED.model_copy(update={"delivery": 1, "execution": "aaaaaaaa"})
        self.claim(claims)
        assert claims.keep(mine, POINT)
        assert self.claim(claims, delivery=2, execution="bbbbbbbb", message=mine).resume_point is None
        assert self.claim(claims, delivery=3, execution="cccccccc", message=mine).resume_point is None

    def test_a_later_run_begins_with_nothing(self, claims: Claims) -> None:
        """A manual retry starts again."""
        self.claim(claims)
        assert claims.keep(JUST_SUBMITTED.model_copy(update={"delivery": 1, "execution": "aaaaaaaa"}), POINT)
        assert self.claim(claims, run=2, execution="bbbbbbbb").resume_point is None
        assert self.claim(claims, run=2, delivery=2, execution="cccccccc").resume_point is None

    def test_only_the_holder_of_a_claim_keeps_something(self, claims: Claims) -> None:
        """Not a stale execution, nor one whose claim is lost, nor one whose job has ended."""
        mine = JUST_SUBMITTED.model_copy(update={"delivery": 1, "execution": "aaaaaaaa"})
        theirs = JUST_SUBMITTED.model_copy(update={"delivery": 2, "execution": "bbbbbbbb"})
        assert not claims.keep(mine, POINT)
        self.claim(claims)
        self.claim(claims, delivery=2, execution="bbbbbbbb")
        assert [False, True] == [claims.keep(mine, POINT), claims.keep(theirs, POINT)]
        self.end(claims, delivery=2, execution="bbbbbbbb")
        assert not claims.keep(theirs, POINT)

    def test_renewing_tells_a_stale_execution_from_the_current_one(self, claims: Claims) -> None:
        """A stale execution learns that another attempt has taken its job over."""
        self.ask(claims)
        mine = JUST_SUBMITTED.model_copy(update={"delivery": 1, "execution": "aaaaaaaa"})
        assert [Verdict.RUN] == claims.renew([mine])
        self.ask(claims, delivery=2, execution="bbbbbbbb")
        theirs = JUST_SUBMITTED.model_copy(update={"delivery": 2, "execution": "bbbbbbbb"})
        assert [Verdict.STALE, Verdict.RUN] == claims.renew([mine, theirs])
        assert [] == claims.renew([])

    def test_a_live_holder_keeps_its_claim(self, claims: Claims) -> None:
        """A job that is delivered again while it runs is not run twice; once its holder expires, it is."""
        self.ask(claims)
        self.renew_holder(claims)
        again = JUST_SUBMITTED.model_copy(update={"delivery": 1})
        assert Verdict.ALIVE == claims.claim(again, delivery=2, execution="bbbbbbbb", worker="v").verdict
        assert Verdict.RUN == self.claim(claims, delivery=3, execution="cccccccc", message=again).verdict

    def test_claiming_again_for_the_same_execution_gives_the_same_answer(self, claims: Claims) -> None:
        """The answer to the first call may have been lost: number, earlier attempts and what the last one kept."""
        self.ask(claims)
        assert claims.keep(self.executed(), POINT)
        expected = self.claim(claims, delivery=2, execution="bbbbbbbb")
        again = self.claim(claims, delivery=2, execution="bbbbbbbb")
        assert (expected.attempt, expected.earlier, POINT) == (again.attempt, again.earlier, again.resume_point)

    @pytest.mark.parametrize("kind", [JobSucceeded, JobFailed, JobRetrying, JobInterrupted])
    def test_a_redelivery_gets_the_outcome_that_may_not_be_stored(self, claims: Claims, kind: type[JobEvent]) -> None:
        """The same event with the same id, until it is known to be confirmed: the handler does not run again."""
        self.ask(claims)
        recorded = self.record(claims, kind)
        assert recorded is not None
        again = self.claim(claims, delivery=2, execution="bbbbbbbb")
        assert (Verdict.UNCONFIRMED, recorded) == (again.verdict, again.outcome)
        claims.confirm([recorded])
        over = Verdict.FINISHED if kind.status.terminal else Verdict.STALE
        again = self.claim(claims, delivery=3, execution="cccccccc")
        assert (over, None) == (again.verdict, again.outcome)

    @pytest.mark.parametrize("confirmed", [True, False])
    def test_the_message_that_puts_an_attempt_back_is_run(self, claims: Claims, confirmed: bool) -> None:
        """It was delivered, so it is stored; the message before it stays stale, and so does a copy of that."""
        self.ask(claims)
        put_back = self.record(claims, JobRetrying)
        assert put_back is not None
        if confirmed:
            claims.confirm([put_back])
        again = self.claim(claims, delivery=2, execution="bbbbbbbb", message=put_back.job)
        assert (Verdict.RUN, 2, [1]) == (again.verdict, again.attempt, [one.number for one in again.earlier])
        copy = JUST_SUBMITTED.model_copy(update={"delivery": 5})
        assert Verdict.STALE == self.ask(claims, delivery=6, execution="cccccccc", message=copy)

    def test_a_confirm_of_another_outcome_changes_nothing(self, claims: Claims) -> None:
        """It is late: the job has been claimed again since."""
        self.ask(claims)
        put_back = self.record(claims, JobRetrying)
        assert put_back is not None
        self.ask(claims, delivery=2, execution="bbbbbbbb", message=put_back.job)
        second = self.executed(delivery=2, execution="bbbbbbbb", attempt=2)
        failed = outcome(JobFailed, second)
        assert failed == claims.end(second, failed)
        claims.confirm([put_back])
        again = self.claim(claims, delivery=3, execution="cccccccc", message=put_back.job)
        assert (Verdict.UNCONFIRMED, failed) == (again.verdict, again.outcome)

    def test_a_recorded_success_stands_against_a_later_attempt(self, claims: Claims) -> None:
        """The later attempt publishes that success, if it may not be stored; its own outcome is dropped."""
        self.ask(claims)
        self.ask(claims, delivery=2, execution="bbbbbbbb")
        success = self.record(claims, JobSucceeded)
        later = {"delivery": 2, "execution": "bbbbbbbb", "attempt": 2}
        for kind in (JobSucceeded, JobFailed, JobRetrying):
            assert success == self.record(claims, kind, **later)
        assert success is not None
        claims.confirm([success])
        assert self.record(claims, **later) is None

    def test_a_retry_runs_although_a_stale_attempt_failed(self, claims: Claims) -> None:
        """The stale one records its failure in an empty claim: Redis has lost the claim of the attempt that retried."""
        self.end(claims, JobFailed)
        first, second = (Attempt(number=number, started_at=AT) for number in (1, 2))
        retried = {"delivery": 2, "execution": "bbbbbbbb", "attempt": 2, "attempts": (first, second)}
        message = JUST_SUBMITTED.model_copy(update=retried)
        again = self.claim(claims, delivery=3, execution="cccccccc", message=message)
        assert (Verdict.RUN, 3) == (again.verdict, again.attempt)

    def test_a_quarantined_job_runs_although_its_last_attempt_failed_since(self, claims: Claims) -> None:
        """Its processor was frozen, and the quarantine is what readers see."""
        self.ask(claims)
        self.end(claims, JobFailed)
        message = JUST_SUBMITTED.model_copy(update={"delivery": 100, "quarantined": 100})
        assert Verdict.RUN == self.ask(claims, delivery=101, execution="bbbbbbbb", message=message)

    def test_a_claim_that_was_lost_is_made_again_by_a_renewal(self, claims: Claims) -> None:
        """Redis lost it, or was away when the job started: a redelivery must not run it beside its holder."""
        assert [Verdict.RUN] == claims.renew([self.executed()])
        again = claims.claim(JUST_SUBMITTED, delivery=2, execution="bbbbbbbb", worker="v")
        assert Verdict.ALIVE == again.verdict

    def test_a_renewal_does_not_take_a_claim_back(self, claims: Claims) -> None:
        """A later attempt keeps it."""
        self.ask(claims, delivery=2, execution="bbbbbbbb")
        assert [Verdict.STALE] == claims.renew([self.executed()])
        assert Verdict.RUN == self.ask(claims, delivery=3, execution="cccccccc")

    def test_asking_without_running_claims_nothing(self, claims: Claims) -> None:
        """A message that was delivered too often is not run, but an outcome that it finds is published."""
        assert (
            Verdict.RUN
            == claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w", may_run=False).verdict
        )
        assert Verdict.RUN == self.ask(claims, delivery=1, execution="bbbbbbbb")
