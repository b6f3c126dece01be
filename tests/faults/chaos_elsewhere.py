"""A processor of a queue of its own: what happens to it must not touch the others."""

from chaos_jobs import Done, Work, note, work_on

from milepost import Run, job


@job("chaos-elsewhere", queue="elsewhere")
def elsewhere(params: Work, run: Run) -> Done:
    """Do some work."""
    note(run, params, "start")
    work_on(params, run)
    note(run, params, "finish")
    return Done(nonce=params.nonce)
