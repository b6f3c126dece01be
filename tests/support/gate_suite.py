"""What every gate must do. The fake of the unit tests passes it, and so does the Lua script in a real Redis."""

from milepost_processor.ports import Gate, Verdict


class GateSuite:
    """Subclasses have a fixture `gate`: a gate that knows of nothing yet."""

    @staticmethod
    def ask(gate: Gate, *, run: int = 1, attempt: int = 1, execution: str = "aaaaaaaa") -> Verdict:
        return gate.claim(job_id="job", run=run, attempt=attempt, execution=execution, worker="w")

    @staticmethod
    def end(gate: Gate, *, run: int = 1, attempt: int = 1, absorbing: bool = False) -> None:
        gate.finish(job_id="job", run=run, attempt=attempt, absorbing=absorbing)

    def test_a_job_that_nobody_has_is_run(self, gate: Gate) -> None:
        """And asking again, for the same execution, changes nothing."""
        assert Verdict.RUN == self.ask(gate)
        assert Verdict.RUN == self.ask(gate)

    def test_a_redelivery_takes_over(self, gate: Gate) -> None:
        """The broker delivered it again: whoever had it is gone, or will be fenced."""
        self.ask(gate)
        assert Verdict.RUN == self.ask(gate, attempt=2, execution="bbbbbbbb")

    def test_a_stale_attempt_does_not_take_back(self, gate: Gate) -> None:
        """A zombie that asks late is told so."""
        self.ask(gate, attempt=2)
        assert Verdict.STALE == self.ask(gate, attempt=1, execution="bbbbbbbb")

    def test_a_duplicate_of_a_running_job_is_not_run(self, gate: Gate) -> None:
        """Two messages, one job: the second one is acknowledged and forgotten."""
        self.ask(gate)
        assert Verdict.TAKEN == self.ask(gate, execution="bbbbbbbb")

    def test_a_finished_job_is_never_run_again(self, gate: Gate) -> None:
        """However often its message comes."""
        self.ask(gate)
        self.end(gate)
        assert Verdict.FINISHED == self.ask(gate, attempt=2, execution="bbbbbbbb")

    def test_a_later_run_of_a_finished_job_is_run(self, gate: Gate) -> None:
        """A manual retry is a new run of the same job, and the old one is stale from then on."""
        self.ask(gate)
        self.end(gate)
        assert Verdict.RUN == self.ask(gate, run=2, execution="cccccccc")
        assert Verdict.STALE == self.ask(gate, attempt=9, execution="dddddddd")

    def test_finishing_an_earlier_run_does_not_end_a_later_one(self, gate: Gate) -> None:
        """A zombie of run 1 can't stop run 2."""
        self.ask(gate, run=2)
        self.end(gate)
        assert Verdict.RUN == self.ask(gate, run=2, attempt=2, execution="bbbbbbbb")

    def test_a_job_that_ran_ungated_is_finished_all_the_same(self, gate: Gate) -> None:
        """The gate was away for the claim, and there again for the end."""
        self.end(gate)
        assert Verdict.FINISHED == self.ask(gate)

    def test_the_failure_of_a_stale_attempt_ends_nothing(self, gate: Gate) -> None:
        """A later attempt is at work: should it be lost, the next one must run."""
        self.ask(gate, attempt=2)
        self.end(gate, attempt=1)
        assert Verdict.RUN == self.ask(gate, attempt=3, execution="bbbbbbbb")

    def test_the_success_of_a_stale_attempt_ends_the_job(self, gate: Gate) -> None:
        """Success absorbs: there is nothing left to do."""
        self.ask(gate, attempt=2)
        self.end(gate, attempt=1, absorbing=True)
        assert Verdict.FINISHED == self.ask(gate, attempt=3, execution="bbbbbbbb")
