"""How long a delivery may stay un-acknowledged: RabbitMQ's consumer timeout and the types' `max_runtime` must agree.

RabbitMQ gives a delivery that is not acknowledged in time to somebody else while the job still runs. Since 3.12 it
takes the time from whoever consumes; before, it has one for the whole node, 30 minutes by default, which no client
can see.
"""

import re
from datetime import timedelta

from milepost_processor.registry import Registry

LISTENS_SINCE = (3, 12)


def needed_timeout(registry: Registry, beside: timedelta) -> timedelta:
    """Return how long a delivery may have to stay un-acknowledged.

    A processor takes as many jobs of each queue as it has threads, and one from its quarantine, so a job may wait
    behind one of every other queue, and of every quarantine, before it starts.

    Args:
        registry: The types that are served.
        beside: What comes on top of a job's own time: waiting for the gate, stopping, draining.
    """
    longest = max(definition.max_runtime for definition in registry.definitions.values())
    return longest * 2 * len(registry.queues) + beside


def check_consumer_timeout(registry: Registry, beside: timedelta, *, said: timedelta, version: str) -> str | None:
    """Return in one sentence why jobs could be taken away while they run, if they could.

    Args:
        registry: The types that are served.
        beside: See `needed_timeout`.
        said: What the operator says that the node's `consumer_timeout` is.
        version: Of RabbitMQ.
    """
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    needed = needed_timeout(registry, beside)
    if numbers >= LISTENS_SINCE or needed <= said:
        return None
    definition = max(registry.definitions.values(), key=lambda one: one.max_runtime)
    return (
        f"RabbitMQ {version} takes a job away after its consumer_timeout, {said} by MILEPOST_CONSUMER_TIMEOUT, but "
        f"jobs of type {definition.type!r} may need {needed} (max_runtime {definition.max_runtime}, for each of "
        f"{len(registry.queues)} queues and its quarantine, and {beside} to stop): raise it in rabbitmq.conf and in "
        "MILEPOST_CONSUMER_TIMEOUT, serve fewer queues, or lower max_runtime"
    )
