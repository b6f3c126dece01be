"""Handlers that do odd but usual things to the process that runs them."""

import asyncio
import multiprocessing
import subprocess
import sys
from contextlib import suppress

from chaos_jobs import Done, Work, note, pause, work_on

from milepost import Run, job

SHELL_CHILD = "sleep 47.11"
"""The command of the shell's children."""


def fork(params: Work) -> None:
    """Let two forked processes work, as libraries for data do."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(pause, [params.milliseconds / 1000] * 2)


def shell() -> None:
    """Wait for a shell whose children do the work."""
    subprocess.run(["sh", "-c", f"{SHELL_CHILD} & {SHELL_CHILD}; wait"], check=False)


@job("chaos-odd")
def odd(params: Work, run: Run) -> Done:
    """Do as requested."""
    note(run, params, "start")
    if params.behave == "fork":
        fork(params)
    elif params.behave == "shell":
        shell()
    elif params.behave == "close-stderr":
        sys.stderr.close()
    work_on(params, run)
    note(run, params, "finish")
    return Done(nonce=params.nonce)


async def work_in_steps(params: Work, run: Run) -> None:
    """Report progress every 50 ms."""
    for step in range(params.milliseconds // 50):
        await asyncio.sleep(0.05)
        run.progress(step, params.milliseconds // 50)


@job("chaos-odd-async")
async def odd_async(params: Work, run: Run) -> Done:
    """Do as requested."""
    note(run, params, "start")
    if params.behave == "stop-loop":
        asyncio.get_running_loop().stop()
    elif params.behave == "task-group":
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(work_in_steps(params, run))
    elif params.behave == "swallow-cancel":
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(params.milliseconds / 1000)
        await asyncio.sleep(1)
    note(run, params, "finish")
    return Done(nonce=params.nonce)
