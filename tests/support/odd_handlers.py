"""Handlers for every way in which a run can end, and the commands that call them."""

import sys
import threading
import types
from contextlib import suppress
from datetime import timedelta

from pydantic import BaseModel, field_validator
from samples import SUBMITTED, TRACE
from trusted import own

from milepost import (
    Canceled,
    InputError,
    Interrupted,
    Reject,
    RetryLater,
    Run,
    Superseded,
    TimedOut,
    definitions_in,
    job,
)
from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import JobSubmitted
from milepost_contracts.values import MAX_RESULT
from milepost_processor.core.handlers import Handlers
from milepost_processor.core.runner import Delivery

FIRST = Delivery(count=0)


class Params(BaseModel):
    do: str = "return"


class Answer(BaseModel):
    n: int


class UnprintableError(Exception):
    """`str()` of it raises."""

    def __str__(self):
        raise RuntimeError


class Tricky(BaseModel):
    x: int = 0

    @field_validator("x")
    @classmethod
    def _raise(cls, value):
        if value > 1:
            sys.exit("given up")
        raise KeyError(value)


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def in_groups(error):
    """Put an error into a group within a group, as nested task groups do."""
    return BaseExceptionGroup("outer", [ValueError("beside it"), BaseExceptionGroup("inner", [error])])


def behave(params, run):  # noqa: PLR0912, PLR0915 - one for each thing a handler can do
    run.progress(1, 2, "half")
    run.emit({"n": 1})
    match params.do:
        case "return":
            return Answer(n=42)
        case "raise":
            raise ValueError("broken \ud800")
        case "input":
            raise InputError("no such thing")
        case "exit":
            raise SystemExit(3)
        case "keyboard":
            raise KeyboardInterrupt
        case "cancel":
            run.stop(Canceled())
            run.checkpoint()
        case "interrupt":
            run.stop(Interrupted())
            run.checkpoint()
        case "later":
            run.save({"at": 7})
            raise RetryLater(after=timedelta(minutes=5), reason="not yet")
        case "reject":
            raise Reject("never")
        case "timeout":
            run.stop(TimedOut())
            run.checkpoint()
        case "superseded":
            run.stop(Superseded())
            run.checkpoint()
        case "wrong":
            return {"n": "not a number"}
        case "number":
            run.progress("abc")
        case "control":
            raise ValueError("\x01" * 20_000)
        case "no-text":
            raise UnprintableError
        case "deep":
            return nested(150)
        case "own-stop":
            raise Superseded
        case "nan":
            run.emit(float("nan"))
        case "generator":
            return (n for n in range(3))
        case "group-cancel":
            run.stop(Canceled())
            raise in_groups(Canceled())
        case "group-timeout":
            run.stop(TimedOut())
            raise in_groups(TimedOut())
        case "group-reject":
            raise in_groups(Reject("never"))
        case "group-input":
            raise in_groups(InputError("no such thing"))
        case "group-raise":
            raise in_groups(OSError("away"))
        case "surrogate":
            run.progress(1, 1, "\ud800")
            return Answer(n=1)
    return None


@job("sync")
def sync_handler(params: Params, run: Run) -> Answer:
    return behave(params, run)


@job("retried", retries=2, backoff=timedelta(seconds=10))
def retried_handler(params: Params, run: Run) -> Answer:
    return behave(params, run)


@job("async")
async def async_handler(params: Params, run: Run) -> Answer:
    return behave(params, run)


@job("files")
def files_handler(params: Params, run: Run) -> Answer | None:
    name, as_result = ("a/report.csv", False) if params.do == "write" else ("picture.png", params.do != "write-half")
    with run.create(name, as_result=as_result) as file:
        file.write(b"1,2")
        if params.do == "write-half":
            raise ValueError("broken")
    return None if as_result and params.do != "write-both" else Answer(n=1)


LEFT = []
"""The threads that handlers have left running."""


@job("leaves")
def leaving_handler(params: Params, run: Run) -> None:
    def work():
        with suppress(RuntimeError):
            run.subprocess(["sleep", "600"])

    LEFT.append(threading.Thread(target=work))
    LEFT[-1].start()


@job("large", retries=1)
def large_handler(params: Params, run: Run) -> str:
    return "x" * MAX_RESULT


@job("odd")
def odd_handler(params: Params, run: Run):
    return object()


@job("tricky")
def tricky_handler(params: Tricky, run: Run) -> None:
    pass


MODULE = types.ModuleType("handlers")
MODULE.__dict__.update(
    r=retried_handler,
    a=sync_handler,
    b=async_handler,
    c=large_handler,
    f=files_handler,
    d=odd_handler,
    e=tricky_handler,
    g=leaving_handler,
)
REGISTRY = Handlers({definition.type: definition for definition in definitions_in(MODULE)})


def command(type="sync", **changes):
    fields = {"type": type, "params": {"do": changes.pop("do", "return")}, "created_at": now()}
    return JobSubmitted(job=own(SUBMITTED, **(fields | changes)), traceparent=TRACE)


def facts(publisher):
    return [event.fact for event in publisher.events]
