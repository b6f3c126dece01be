"""Hypothesis strategies for events that are believed, though they state all that may be stated."""

from datetime import timedelta

from hypothesis import assume
from hypothesis import strategies as st
from pydantic import ValidationError
from samples import RUNNING, SAMPLES
from trusted import TRUST, received

from milepost_contracts.clock import now
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages.trust import CLOCK_TOLERANCE, MAX_STATED_DELAY
from milepost_contracts.values import LAST_MOMENT, MAX_DELIVERY, MAX_STATED_DELIVERY, PutOff

DELIVERIES = st.sampled_from([0, 1, 9_999_850, 9_999_950, MAX_STATED_DELIVERY - 1, MAX_STATED_DELIVERY, MAX_DELIVERY])
COUNTS = st.sampled_from([0, 1, 999_899, 999_998, 999_999])
TODAY = now()
MOMENTS = st.sampled_from(
    [
        *(RUNNING.created_at - timedelta(days=365 * 56), RUNNING.created_at, TODAY, TODAY + CLOCK_TOLERANCE / 2),
        *(TODAY + MAX_STATED_DELAY, LAST_MOMENT - timedelta(seconds=1), LAST_MOMENT),
    ]
)
SPANS = st.sampled_from([timedelta(milliseconds=1), timedelta(days=366)])
PUT_OFFS = st.builds(PutOff, since=st.none() | MOMENTS, until=MOMENTS, refusal=st.sampled_from([None, "é" * 500]))
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "delivery": DELIVERIES,
        "quarantined": DELIVERIES,
        **dict.fromkeys(("attempt", "retried", "redelivered"), COUNTS),
        **dict.fromkeys(("started_at", "run_at"), MOMENTS),
        **dict.fromkeys(("start_within", "max_runtime"), SPANS),
        "put_off": PUT_OFFS,
        "type_version": st.sampled_from([None, "", "x" * 64]),
        "attempts": st.sampled_from([(), RUNNING.attempts]),
    },
)


@st.composite
def believed_events(draw, kinds):
    """Events that are believed, with fields at the limits of what may be stated."""
    sample = draw(st.sampled_from([one for one in SAMPLES if isinstance(one, kinds)]))
    stated = sample.model_copy(
        update={"job": sample.job.model_copy(update=draw(FIELDS)), "time": draw(st.just(sample.time) | MOMENTS)}
    )
    try:
        return TRUST.job_message(received(stated))
    except (MalformedEvent, ValidationError):
        assume(False)


def readable(event):
    """Return whether another service reads and believes the event of a tracker, as it is."""
    return TRUST.job_message(received(event, user_id="tracker")).sequence == event.sequence
