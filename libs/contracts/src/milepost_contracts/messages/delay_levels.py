"""Encodes a delay as the words of a routing key (law 7): one bit for each delay level.

Level k holds a message for 2**k seconds. A delay is the sum of the levels whose bit is set, so 23 queues are enough
for up to 97 days. All messages in a queue have the same TTL, because the broker expires messages at its head only.
"""

import math
from datetime import timedelta

LEVELS = 23
MAX_DELAY = timedelta(days=90)
"""The longest delay that may be requested."""
_MAX_SECONDS = 2**LEVELS - 1


def delay_words(delay: timedelta) -> str:
    """Return the bits of a delay in whole seconds, the longest level first: `0.0.….1.0`.

    Rounded up, so that no message arrives early. Zero or less means no delay.
    """
    seconds = min(_MAX_SECONDS, max(0, math.ceil(delay.total_seconds())))
    return ".".join(f"{seconds:0{LEVELS}b}")


def first_level(delay: timedelta) -> int | None:
    """Return the first level that a message with this delay waits in; `None` if it does not wait."""
    bits = delay_words(delay).replace(".", "")
    return LEVELS - 1 - bits.index("1") if "1" in bits else None
