"""How long a message waits, as the words of a routing key (law 7): one word for each level of the delay ladder.

Level k of the ladder holds a message for 2**k seconds. A delay is the sum of the levels whose bit is set, so 23
queues hold anything up to 97 days, and no queue ever holds messages of different ages, of which the broker would
look at the first one only.
"""

import math
from datetime import timedelta

LEVELS = 23
MAX_DELAY = timedelta(days=90)
"""The longest delay that anyone may ask for."""
_LONGEST = 2**LEVELS - 1


def delay_words(delay: timedelta) -> str:
    """Return the bits of a delay in whole seconds, the longest level first: `0.0.….1.0`.

    Rounded up, so that nothing arrives before its time; nothing or less does not wait at all.
    """
    seconds = min(_LONGEST, max(0, math.ceil(delay.total_seconds())))
    return ".".join(f"{seconds:0{LEVELS}b}")


def first_level(delay: timedelta) -> int | None:
    """Return the first level that such a message waits in, if it waits."""
    bits = delay_words(delay).replace(".", "")
    return LEVELS - 1 - bits.index("1") if "1" in bits else None
