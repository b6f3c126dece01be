"""A release of some handlers; `chaos_new_version` is the next one."""

from chaos_jobs import Done, Work, note
from pydantic import ConfigDict

from milepost import Run, job


class Strict(Work):
    model_config = ConfigDict(extra="forbid")


@job("chaos-versioned")
def versioned(params: Strict, run: Run) -> Done:
    """Do nothing."""
    note(run, params, "start")
    note(run, params, "finish")
    return Done(nonce=params.nonce)
