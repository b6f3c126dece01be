"""The promise, under every fault that one machine can hold: nothing accepted is lost, and no status ever lies."""

import pytest
from fault_suite.matrix import MATRIX

__all__ = ["MATRIX"]


@pytest.mark.timeout(600)
def test_nothing_accepted_is_lost_and_no_status_lies(fault, seed, cluster, held):
    """Whatever breaks: every job ends, as its handler ended it, and every reader only ever sees it go forward."""
    held(fault, seed, cluster)
