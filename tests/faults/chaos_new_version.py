"""The next release of `chaos_old_version`: one more job type, and one more field."""

from chaos_jobs import Done, Work, note
from pydantic import ConfigDict

from milepost import Run, job


class Strict(Work):
    model_config = ConfigDict(extra="forbid")
    currency: str = "EUR"


@job("chaos-versioned")
def versioned(params: Strict, run: Run) -> Done:
    """Do nothing."""
    note(run, params, "start")
    note(run, params, "finish")
    return Done(nonce=params.nonce)


@job("chaos-new")
def new(params: Work, run: Run) -> Done:
    """Do nothing."""
    note(run, params, "start")
    note(run, params, "finish")
    return Done(nonce=params.nonce)
