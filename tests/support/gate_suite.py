"""What every gate must do. The fake of the unit tests passes it, and so does the Lua script in a real Redis."""

from typing import Any

from samples import AT, SUBMITTED

from milepost_contracts.values import Attempt, Job
from milepost_processor.ports import Claim, Gate, Verdict


class GateSuite:
    """Subclasses have a fixture `gate`: a gate that knows of nothing yet, and say how a holder falls silent."""

    def silence(self, gate: Gate) -> None:
        """Make whoever has the job one that has not been heard of for a while."""
        raise NotImplementedError

    def speak(self, gate: Gate) -> None:
        """Make whoever has the job one that was heard of just now."""
        raise NotImplementedError

    def claim(
        self, gate: Gate, *, run: int = 1, turn: int = 1, execution: str = "aaaaaaaa", message: Job = SUBMITTED
    ) -> Claim:
        self.silence(gate)
        return gate.claim(message.model_copy(update={"run": run}), turn=turn, execution=execution, worker="w")

    def ask(self, gate: Gate, **claimed: Any) -> Verdict:
        return self.claim(gate, **claimed).verdict

    @staticmethod
    def end(gate: Gate, *, run: int = 1, turn: int = 1, absorbing: bool = False) -> None:
        gate.finish(SUBMITTED.model_copy(update={"run": run, "turn": turn}), absorbing=absorbing)

    def test_a_job_that_nobody_has_is_run(self, gate: Gate) -> None:
        """And asking again, for the same execution, changes nothing."""
        assert Verdict.RUN == self.ask(gate)
        assert Verdict.RUN == self.ask(gate)

    def test_a_redelivery_takes_over(self, gate: Gate) -> None:
        """The broker delivered it again: whoever had it is gone, or will be fenced."""
        self.ask(gate)
        assert Verdict.RUN == self.ask(gate, turn=2, execution="bbbbbbbb")

    def test_a_stale_attempt_does_not_take_back(self, gate: Gate) -> None:
        """A zombie that asks late is told so."""
        self.ask(gate, turn=2)
        assert Verdict.STALE == self.ask(gate, turn=1, execution="bbbbbbbb")

    def test_a_duplicate_of_a_running_job_is_not_run(self, gate: Gate) -> None:
        """Two messages, one job: the second one is acknowledged and forgotten."""
        self.ask(gate)
        assert Verdict.TAKEN == self.ask(gate, execution="bbbbbbbb")

    def test_a_finished_job_is_never_run_again(self, gate: Gate) -> None:
        """However often its message comes."""
        self.ask(gate)
        self.end(gate)
        assert Verdict.FINISHED == self.ask(gate, turn=2, execution="bbbbbbbb")

    def test_a_later_run_of_a_finished_job_is_run(self, gate: Gate) -> None:
        """A manual retry is a new run of the same job, and the old one is stale from then on."""
        self.ask(gate)
        self.end(gate)
        assert Verdict.RUN == self.ask(gate, run=2, execution="cccccccc")
        assert Verdict.STALE == self.ask(gate, turn=9, execution="dddddddd")

    def test_finishing_an_earlier_run_does_not_end_a_later_one(self, gate: Gate) -> None:
        """A zombie of run 1 can't stop run 2."""
        self.ask(gate, run=2)
        self.end(gate)
        assert Verdict.RUN == self.ask(gate, run=2, turn=2, execution="bbbbbbbb")

    def test_a_job_that_ran_ungated_is_finished_all_the_same(self, gate: Gate) -> None:
        """The gate was away for the claim, and there again for the end."""
        self.end(gate)
        assert Verdict.FINISHED == self.ask(gate)

    def test_the_failure_of_a_stale_attempt_ends_nothing(self, gate: Gate) -> None:
        """A later attempt is at work: should it be lost, the next one must run."""
        self.ask(gate, turn=2)
        self.end(gate, turn=1)
        assert Verdict.RUN == self.ask(gate, turn=3, execution="bbbbbbbb")

    def test_the_success_of_a_stale_attempt_ends_the_job(self, gate: Gate) -> None:
        """Success absorbs: there is nothing left to do."""
        self.ask(gate, turn=2)
        self.end(gate, turn=1, absorbing=True)
        assert Verdict.FINISHED == self.ask(gate, turn=3, execution="bbbbbbbb")

    def test_an_attempt_that_was_lost_is_remembered_for_the_next(self, gate: Gate) -> None:
        """The message can't know of it: its processor died before it could say anything."""
        first = self.claim(gate)
        assert (1, (), False) == (first.attempt, first.earlier, first.crashed)
        second = self.claim(gate, turn=2, execution="bbbbbbbb")
        assert (2, [1], True) == (second.attempt, [one.number for one in second.earlier], second.crashed)
        assert ("w", None) == (second.earlier[0].worker, second.earlier[0].ended_at)
        third = self.claim(gate, turn=3, execution="cccccccc")
        assert (3, [1, 2]) == (third.attempt, [one.number for one in third.earlier])

    def test_what_a_message_tells_of_its_attempts_counts(self, gate: Gate) -> None:
        """A retry is a new message, published after the attempt before it ended: nothing was lost in between."""
        self.claim(gate)
        told = Attempt(number=1, worker="v", started_at=AT, ended_at=AT, why="ValueError: no")
        retried = {"turn": 1, "execution": "aaaaaaaa", "attempt": 1, "attempts": (told,)}
        message = SUBMITTED.model_copy(update=retried)
        again = self.claim(gate, turn=2, execution="bbbbbbbb", message=message)
        assert (Verdict.RUN, 2, (told,), False) == (again.verdict, again.attempt, again.earlier, again.crashed)

    def test_a_running_execution_is_told_whether_it_still_counts(self, gate: Gate) -> None:
        """A stale run learns that another attempt has its job."""
        self.ask(gate)
        mine = SUBMITTED.model_copy(update={"turn": 1, "execution": "aaaaaaaa"})
        assert [Verdict.RUN] == gate.verdicts([mine])
        self.ask(gate, turn=2, execution="bbbbbbbb")
        theirs = SUBMITTED.model_copy(update={"turn": 2, "execution": "bbbbbbbb"})
        assert [Verdict.STALE, Verdict.RUN] == gate.verdicts([mine, theirs])
        assert [] == gate.verdicts([])

    def test_a_holder_that_lives_keeps_its_job(self, gate: Gate) -> None:
        """A job that is delivered again while it runs is not run twice; once its holder falls silent, it is."""
        self.ask(gate)
        self.speak(gate)
        again = SUBMITTED.model_copy(update={"turn": 1})
        assert Verdict.ALIVE == gate.claim(again, turn=2, execution="bbbbbbbb", worker="v").verdict
        assert Verdict.RUN == self.claim(gate, turn=3, execution="cccccccc", message=again).verdict
