"""The promise, under every fault that one machine can hold: nothing accepted is lost, and no status ever lies."""

import pytest
from fault_suite import nodes, scenario
from fault_suite.matrix import MATRIX
from waiting import wait_until


def pytest_generate_tests(metafunc):
    whole = metafunc.config.getoption("--faults") == "whole"
    seeds = [int(seed) for seed in metafunc.config.getoption("--seeds").split(",")]
    if "fault" in metafunc.fixturenames:
        matrix = nodes.MATRIX if "nodes" in metafunc.fixturenames else MATRIX
        cases = [(fault, seed) for seed in seeds for fault in matrix if whole or fault.star]
        metafunc.parametrize("fault, seed", cases, ids=[f"{fault.name} (seed {seed})" for fault, seed in cases])


def judge(fault, seed, cluster, pace, note):
    wait_until(cluster.all_ready, within=60, what="every service is ready")
    row = scenario.run(fault, cluster, pace, seed=seed)
    note(row)
    assert row.held, "\n".join(row.faults)


@pytest.mark.timeout(600)
def test_nothing_accepted_is_lost_and_no_status_lies(fault, seed, cluster, pace, note):
    """Whatever breaks: every job ends, as its handler ended it, and every reader only ever sees it go forward."""
    judge(fault, seed, cluster, pace, note)


@pytest.mark.timeout(600)
def test_several_servers_lose_nothing_either(fault, seed, nodes, pace, note):
    """Three nodes of RabbitMQ: any one may go, and of all three nothing that was accepted is lost."""
    judge(fault, seed, nodes, pace, note)
