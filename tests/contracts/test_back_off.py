"""The back-off between attempts."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from milepost_contracts.back_off import BackOff


@given(st.floats(0.01, 1), st.floats(1, 60), st.integers(1, 30))
def test_pauses_double_up_to_the_longest_and_start_over_after_a_reset(first, longest, count):
    """Jitter changes each pause by up to a fifth."""
    back_off = BackOff(first, longest)
    for _ in range(2):
        expected = itertools.islice(
            itertools.accumulate(itertools.repeat(2), lambda pause, by: min(longest, pause * by), initial=first), count
        )
        for pause in expected:
            assert 0.79 * pause <= back_off.next() <= 1.21 * pause
        back_off.reset()
