"""The main promise where ended jobs are kept for seconds, and others wait for longer."""

import pytest
from fault_suite.harm_deploy import MATRIX, RETENTION

__all__ = ["MATRIX"]


@pytest.fixture(scope="session")
def chaos_settings(chaos_settings):
    """Shorten the retention; it can't be changed later, because the log has it too."""
    return {**chaos_settings, "MILEPOST_RETENTION": str(RETENTION)}


@pytest.mark.timeout(600)
def test_a_job_may_wait_for_longer_than_ended_ones_are_kept(fault, seed, cluster, check_fault):
    """It runs, and a canceled one does not, although nothing is known of it any more."""
    check_fault(fault, seed, cluster)
