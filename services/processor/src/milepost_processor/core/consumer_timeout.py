"""How long a delivery may stay un-acknowledged: RabbitMQ's consumer timeout and the types' `max_runtime` must agree.

RabbitMQ delivers a message that is not acknowledged in time to another consumer while the job still runs. This time is
set at the broker, 30 minutes by default, and no client can read it. A consumer can set one of its own in some versions
only, and never for a message that it fetches. So the operator tells the processor what is set there.
"""

import math
from datetime import timedelta

from milepost_processor.core.handlers import Handlers

START_WITHIN = timedelta(minutes=1)
"""A generous limit for how long a delivery is held before it starts."""


def needed_timeout(handlers: Handlers, overhead: timedelta) -> timedelta:
    """Return how long a delivery may have to stay un-acknowledged.

    A processor holds no delivery that it can't start within a moment, so the number of queues does not matter.

    Args:
        handlers: The types that are served.
        overhead: What comes on top of a job's own time: claiming it, stopping it, draining.
    """
    longest = max(definition.max_runtime for definition in handlers.definitions.values())
    return longest + START_WITHIN + overhead


def check_consumer_timeout(handlers: Handlers, overhead: timedelta, *, configured: timedelta) -> str | None:
    """Return one sentence on why jobs could be redelivered while they run, if they could.

    Args:
        handlers: The types that are served.
        overhead: See `needed_timeout`.
        configured: The broker's `consumer_timeout`, by the operator's setting.
    """
    needed = needed_timeout(handlers, overhead)
    if needed <= configured:
        return None
    definition = max(handlers.definitions.values(), key=lambda one: one.max_runtime)
    seconds = math.ceil(needed.total_seconds())
    return (
        f"RabbitMQ redelivers a job after its consumer_timeout ({configured} by MILEPOST_CONSUMER_TIMEOUT), "
        f"but jobs of type {definition.type!r} may need {needed} (max_runtime {definition.max_runtime}, and the "
        f"rest to start and to stop). Raise it in rabbitmq.conf to consumer_timeout = {seconds * 1000} (milliseconds) "
        f"or more, and here to MILEPOST_CONSUMER_TIMEOUT={seconds} (seconds); or lower max_runtime."
    )
