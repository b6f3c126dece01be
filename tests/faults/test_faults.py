"""The promise, under every fault that one machine can hold: nothing accepted is lost, and no status ever lies."""

import pytest
from fault_suite import scenario
from fault_suite.matrix import MATRIX
from waiting import wait_until


def pytest_generate_tests(metafunc):
    whole = metafunc.config.getoption("--faults") == "whole"
    seeds = [int(seed) for seed in metafunc.config.getoption("--seeds").split(",")]
    if "fault" in metafunc.fixturenames:
        cases = [(fault, seed) for seed in seeds for fault in MATRIX if whole or fault.star]
        metafunc.parametrize("fault, seed", cases, ids=[f"{fault.name} (seed {seed})" for fault, seed in cases])


@pytest.mark.timeout(600)
def test_nothing_accepted_is_lost_and_no_status_lies(fault, seed, cluster, pace, rows):
    """Whatever breaks: every job ends, as its handler ended it, and every reader only ever sees it go forward."""
    wait_until(cluster.all_ready, within=60, what="every service is ready")
    row = scenario.run(fault, cluster, pace, seed=seed)
    rows.append(row)
    assert row.held, "\n".join(row.faults)
