"""A handler that hurts the process it runs in, in the way that its params name; and one that just runs."""

import asyncio
import logging
import multiprocessing
import os
import socket
import sys
import threading
import time
import warnings

from pydantic import BaseModel

from milepost import Run, job


class Nothing(BaseModel):
    pass


class Hurt(BaseModel):
    how: str


@job("well")
def well(params: Nothing, run: Run) -> str:
    """Do nothing, as a job that comes after a hostile one."""
    sys.stderr.write("well\n")
    return "well"


@job("well-async")
async def well_async(params: Nothing, run: Run) -> str:
    """Do nothing, on the event loop."""
    await asyncio.sleep(0.01)
    return "well"


@job("hurt")
def hurt(params: Hurt, run: Run) -> str:  # noqa: PLR0912 - one for each way
    """Hurt the process, on a worker thread."""
    match params.how:
        case "close-streams":
            sys.stdout.close()
            sys.stderr.close()
        case "no-streams":
            sys.stdout = sys.stderr = None
        case "warnings":
            warnings.simplefilter("error")
        case "default-time-out":
            socket.setdefaulttimeout(0.000_001)
        case "recursion":
            sys.setrecursionlimit(120)
        case "environment":
            os.environ.clear()
            os.chdir("/")
        case "logging":
            logging.disable(logging.CRITICAL)
            logging.shutdown()
            logging.getLogger().handlers = []
        case "sleepless":
            time.sleep = lambda seconds: None
        case "hooks":
            threading.excepthook = sys.excepthook = sys.unraisablehook = lambda *_: None
        case "forked-return":
            os.fork()
        case "forked-exit":
            if os.fork() == 0:
                sys.exit(3)
        case "children":
            threading.Thread(target=threading.Event().wait).start()
            context = multiprocessing.get_context("fork")
            children = [context.Process(target=time.sleep, args=(600,), daemon=daemon) for daemon in (True, False)]
            for child in children:
                child.start()
    return "hurt"


@job("stops-loop")
async def stops_loop(params: Nothing, run: Run) -> str:
    """Stop the event loop of all async handlers."""
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.2)
    return "not reached"
