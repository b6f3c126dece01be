"""Secrets are marked in the schema of the params, and masked in the texts of errors and progress."""

import json
from datetime import date, timedelta

import pytest
from pydantic import BaseModel, Secret, SecretBytes, SecretStr, field_validator

from milepost import InputError, RetryLater, Run, job
from milepost.attempt import attempt
from milepost.job import definition_of
from milepost.masking import Masking
from milepost.testing import MemoryOutputs, run_handler, run_job
from milepost.testing.attempts import wait_for
from milepost_contracts.secret_params import MASK, SecretParams

SECRET = 'hun"ter\n2é/+ x'
FORMS = [
    SECRET,
    repr(SECRET)[1:-1],
    repr(SECRET.encode())[2:-1],
    'hun\\"ter\\n2\\u00e9/+ x',
    'hun\\"ter\\n2é/+ x',
    json.dumps(repr(SECRET)[1:-1])[1:-1],
    "hun%22ter%0A2%C3%A9/%2B%20x",
    "hun%22ter%0A2%C3%A9%2F%2B%20x",
    "hun%22ter%0A2%C3%A9%2F%2B+x",
]


class SecretDate(Secret[date]):
    """A secret with its own display."""

    def _display(self):
        return "****-**-**"


class Inner(BaseModel):
    pin: Secret[int]
    born: SecretDate | None = None


class Params(BaseModel):
    token: SecretStr
    raw: SecretBytes = SecretBytes(b"none")
    inner: Inner | None = None
    many: list[Secret[str]] = []
    keyed: dict[SecretStr, int] = {}
    whole: Secret[Inner] | None = None
    plain: str = ""

    @field_validator("plain")
    @classmethod
    def _refuse(cls, value, info):
        if value == "refuse":
            raise ValueError(f"it does not fit to {info.data['token'].get_secret_value()}")
        return value


def test_every_secret_type_of_pydantic_is_marked_in_the_announced_schema():
    """Pydantic itself marks only `SecretStr` and `SecretBytes`."""

    @job("x")
    def handler(params: Params, run: Run) -> None: ...

    schema = definition_of(handler).announcement().params_schema
    params = {
        "token": "s",
        "raw": "s",
        "inner": {"pin": 1234, "born": "2000-01-01"},
        "many": ["s"],
        "keyed": {"s": 1},
        "whole": {"pin": 1},
        "plain": "x",
    }
    shown, _ = SecretParams(schema).split(params)
    inner = {"pin": MASK, "born": MASK}
    masked = {"token": MASK, "raw": MASK, "inner": inner, "many": [MASK], "keyed": MASK, "whole": MASK, "plain": "x"}
    assert masked == shown


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_masked_as_it_is_escaped_and_encoded(form):
    """Messages contain it in a `repr`, in JSON or in a URL."""
    assert f"before {MASK} after" == Masking([SECRET])(f"before {form} after")


def test_all_texts_and_numbers_of_a_secret_are_masked_but_short_ones():
    """A secret may be an object, whose names are secret unless the schema has them. A short text would hide words."""
    masking = Masking(
        [{"user": "alice", "pins": [1234, 12, True], "none": None, "a-token": 1}, "abc", "none"], ["user"]
    )
    assert f"user {MASK} {MASK} {MASK} 12 True abc {MASK}" == masking("user alice 1234 a-token 12 True abc none")


def test_of_two_secrets_the_longer_is_masked_first():
    """Nothing of it is left."""
    assert f"{MASK} {MASK}" == Masking(["abcd", "abcdefgh"])("abcdefgh abcd")


class LeakError(Exception):
    """Names the secret in a note too."""


def leaks(how):
    def handler(params: Params, run: Run) -> None:
        value = params.token.get_secret_value()
        run.progress(1, 2, f"{'x' * 495}{value}")
        if how == "raise":
            error = LeakError(f"401 for {value!r}")
            error.add_note(f"sent {value}")
            raise error
        if how == "group":
            raise ExceptionGroup("several", [ValueError(value)])
        raise {"input": InputError(value), "later": RetryLater(after=timedelta(1), reason=value)}[how]

    return definition_of(job("x")(handler))


@pytest.mark.parametrize("how", ["raise", "group", "input", "later"])
def test_nothing_of_a_secret_is_in_an_error_or_in_the_progress(how):
    """Not in the message, nor the traceback, and no beginning of it where a text is cut off."""
    run = Run(job_id="1", outputs=MemoryOutputs(), masking=Masking(["hunter2-hunter2"]))
    ending = attempt(leaks(how), {"token": "hunter2-hunter2"}, run, wait_for)
    assert MASK in ending.error.message
    assert "hunter2" not in ending.error.model_dump_json()
    assert run.report().progress.message.endswith(MASK[:5])


def test_nothing_of_a_secret_is_in_the_error_of_a_validator():
    """A validator of the author may name it."""
    run = Run(job_id="1", masking=Masking(["hunter2"]))
    error = attempt(leaks("raise"), {"token": "hunter2", "plain": "refuse"}, run, wait_for).error
    assert ("invalid-params", f"plain: Value error, it does not fit to {MASK}") == (error.kind, error.message)


def test_the_test_kit_gives_a_handler_its_secrets():
    """Tests need no keys."""

    @job("x")
    def handler(params: Params, run: Run) -> str:
        return params.token.get_secret_value()[::-1]

    assert "2retnuh" == run_handler(handler, {"token": "hunter2"}).result
    assert "2retnuh" == run_job(handler, {"token": "hunter2"}).result
