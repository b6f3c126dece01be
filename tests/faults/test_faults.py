"""The main promise, under every fault that one machine can produce: no accepted job is lost, and no status is wrong."""

import pytest
from fault_suite.matrix import MATRIX

__all__ = ["MATRIX"]


@pytest.mark.timeout(600)
def test_no_accepted_job_is_lost_and_no_status_is_wrong(fault, seed, cluster, check_fault):
    """Under every fault: each job ends as its handler ended it, and no reader sees it go back."""
    check_fault(fault, seed, cluster)
