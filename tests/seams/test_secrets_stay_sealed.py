"""Whatever a handler's params are: nothing that leaves a service has a secret, and the handler gets each."""

import asyncio
from datetime import timedelta
from typing import Any, Optional, Union

from gateway_fakes.params_validator import FakeParamsValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Secret, SecretBytes, SecretStr, create_model
from pydantic_core import to_json
from samples import SUBMITTED

from milepost import Run, job
from milepost.attempt import Failed, attempt
from milepost.job import definition_of
from milepost.testing.attempts import wait_for
from milepost_contracts.http import webhooks
from milepost_contracts.messages.job_events import JobFailed, JobSubmitted, decode_event, encode_event
from milepost_contracts.secret_params import SecretParams
from milepost_contracts.status import history
from milepost_contracts.status.render import job_of, render_hidden, render_state
from milepost_gateway.core.job_types import KnownType
from milepost_processor.core.handlers import Handlers
from milepost_processor.core.secret_params import ParamsOpener
from milepost_service.sealing import Sealer

SEALER = Sealer.parse("1:" + "ab" * 32)
RETENTION = timedelta(days=7)
NUMBER = 9_876_543_210
MARKS = (b"hunter2", str(NUMBER).encode(), b"misspelled")

secret_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8).map(
    lambda one: f"hunter2{one}"
)
names = st.from_regex(r"[a-z]{1,3}", fullmatch=True)
LEAVES = [
    (SecretStr, secret_texts),
    (SecretBytes, secret_texts),
    (Secret[str], secret_texts),
    (Secret[int], st.just(NUMBER)),
    (str, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)),
    (int, st.integers(0, 1000)),
]


@st.composite
def types(draw, depth=2):  # noqa: PLR0911 - one kind a line
    """Return a type for a model's field, and a strategy for its JSON values."""
    kind = draw(
        st.sampled_from(
            ["leaf", "list", "dict", "keys", "optional", "union", "model", "tuple", "whole"] if depth else ["leaf"]
        )
    )
    if kind == "leaf":
        return draw(st.sampled_from(LEAVES))
    if kind == "keys":
        return dict[SecretStr, int], st.dictionaries(secret_texts, st.integers(0, 9), max_size=2)
    if kind == "whole":
        return Secret[dict[str, str]], st.dictionaries(names, secret_texts, max_size=2)
    if kind == "model":
        return draw(models(depth=depth - 1))
    inner, values = draw(types(depth=depth - 1))
    if kind == "list":
        return list[inner], st.lists(values, max_size=2)
    if kind == "dict":
        return dict[str, inner], st.dictionaries(names, values, max_size=2)
    if kind == "optional":
        return Optional[inner], st.none() | values  # noqa: UP045 - made at run time
    other, others = draw(types(depth=depth - 1))
    if kind == "tuple":
        return tuple[inner, other], st.tuples(values, others).map(list)
    return Union[inner, other], values | others  # noqa: UP007 - made at run time


@st.composite
def models(draw, depth=2):
    """Return a model, and a strategy for JSON objects that it accepts, with names too that it does not know."""
    fields = draw(st.dictionaries(names, types(depth=depth), min_size=1, max_size=3))
    known = {f"{name}_": values for name, (_, values) in fields.items()}
    model = create_model("Model", **{f"{name}_": (kind, ...) for name, (kind, _) in fields.items()})
    return model, st.fixed_dictionaries(known)


def revealed(value):
    """Return a validated value with its secrets."""
    if isinstance(value, BaseModel):
        return {name: revealed(one) for name, one in value}
    if isinstance(value, dict):
        return {revealed(key): revealed(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [revealed(one) for one in value]
    return revealed(value.get_secret_value()) if isinstance(value, Secret | SecretStr | SecretBytes) else value


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_no_secret_leaves_and_the_handler_gets_each(data):
    """The gateway, the tracker's view, streams, webhooks, the error of the attempt, and the retry from the view."""
    model, values = data.draw(models())
    params: dict[str, Any] = data.draw(values) | {"unknown": "misspelled"}
    got = []

    def handler(params: model, run: Run) -> None:
        got.append(revealed(params))
        run.progress(1, message=f"{got}")
        raise ValueError(f"{got}")

    definition = definition_of(job("secretive")(handler))
    known = KnownType.of(definition.announcement(), FakeParamsValidator(), SecretParams(definition.params_schema()))
    if not known.secret_params.exist:
        params.pop("unknown")
        assert "hunter2" not in repr(params), "a secret type is not marked"
    asyncio.run(known.check(params, to_json(params), tenant="acme", until=0))
    shown, secrets = known.split(params)
    submitted = SEALER.seal(SUBMITTED.model_copy(update={"type": "secretive", "params": shown}), secrets)

    event = decode_event(encode_event(JobSubmitted(job=submitted)))
    opener = ParamsOpener(Handlers({"secretive": definition}), SEALER)
    opened = opener.open(event.job)
    assert params == opened.params
    run = Run(job_id="1", masking=opened.masking)
    ending = attempt(definition, opened.params, run, wait_for)
    assert isinstance(ending, Failed)
    assert ending.raised is not None, ending.error.message
    assert [revealed(model.model_validate(params))] == got

    changes = {"error": ending.error, "progress": run.report().progress, "finished_at": SUBMITTED.created_at}
    failed = JobFailed(job=event.job.model_copy(update=changes))
    for one in (event, failed):
        state, hidden = render_state(one, retention=RETENTION), render_hidden(one)
        for leaving in (encode_event(one), history.write(one), webhooks.render(one), state, hidden):
            assert [] == [mark for mark in MARKS if mark in leaving]
        assert params == opener.open(job_of(state, hidden)).params
