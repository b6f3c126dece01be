"""`make test` runs a short form of the starred faults; `make faults` the full matrix, once for each seed."""

from dataclasses import asdict
from pathlib import Path

import pytest
from waiting import wait_until

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def pytest_addoption(parser):
    group = parser.getgroup("faults")
    group.addoption("--faults", choices=("short", "full"), default="short", help="which part of the fault matrix")
    group.addoption("--seeds", default="1", help="seeds of the load, separated by commas")


def pytest_generate_tests(metafunc):
    """Run every row of the module's matrix, or only the starred ones, with each seed."""
    if "fault" in metafunc.fixturenames:
        full = metafunc.config.getoption("--faults") == "full"
        rows = [fault for fault in metafunc.module.MATRIX if full or fault.star]
        seeds = [int(seed) for seed in metafunc.config.getoption("--seeds").split(",")]
        metafunc.parametrize("seed", seeds, ids="seed {}".format, scope="module")
        metafunc.parametrize("fault", [_parameter(fault) for fault in rows])


def _parameter(fault):
    known = fault.known_failure
    return pytest.param(fault, id=fault.name, marks=[] if known is None else pytest.mark.xfail(reason=known))


@pytest.fixture(scope="session")
def pace(request):
    from fault_suite.fault import Pace

    if request.config.getoption("--faults") == "full":
        return Pace(rate=16, before=2, scale=0.5, slow=5_000)
    return Pace(rate=10, before=1, scale=0.2, slow=1_000, lenience=4.0)


@pytest.fixture(scope="session")
def chaos_settings(tmp_path_factory):
    """Settings of the services: handlers that misbehave, and short time-outs."""
    return {
        "PYTHONPATH": str(HERE),
        "CHAOS_LEDGER": str(tmp_path_factory.mktemp("faults") / "ledger.jsonl"),
        "MILEPOST_HANDLERS": "chaos_jobs,chaos_odd",
        "MILEPOST_THREADS": "8",
        "MILEPOST_DRAIN_TIMEOUT": "2",
        "MILEPOST_CANCEL_GRACE": "2",
        "MILEPOST_CLAIM_PATIENCE": "5",
        "MILEPOST_HEARTBEAT": "10",
    }


@pytest.fixture(scope="module")
def cluster(start_stack, chaos_settings, seed):
    """Two gateways, three processors, two trackers, and an orchestrator; new for each seed, with an empty log."""
    from fault_suite.cluster import Cluster

    stack = start_stack("faults", gateways=2, processors=3, trackers=2, settings=chaos_settings)
    made = Cluster(stack, chaos_settings["CHAOS_LEDGER"])
    yield made
    made.close()
    stack.down()


@pytest.fixture(scope="module")
def nodes(start_stack, chaos_settings, tmp_path_factory, seed):
    """The same on three RabbitMQ nodes behind a load balancer, and a Redis with a replica behind a switch.

    New ones for each seed: a killed Redis stays down, and a stream's replicas do not all come back after a full disk.
    """
    from fault_suite.nodes import Nodes, Servers

    from milepost_stack.rabbitmq import CONSUMER_TIMEOUT

    servers = Servers(tmp_path_factory.mktemp("servers"))
    try:
        with pytest.MonkeyPatch.context() as environment:
            for name, url in servers.operator_urls.items():
                environment.setenv(name, url)
            settings = {**chaos_settings, "MILEPOST_CONSUMER_TIMEOUT": str(CONSUMER_TIMEOUT)}
            stack = start_stack(
                "nodes", gateways=2, processors=3, trackers=2, settings=settings, own_settings=servers.service_settings
            )
        made = Nodes(stack, chaos_settings["CHAOS_LEDGER"], servers)
        yield made
        made.close()
        stack.down()
    finally:
        servers.close()


ROW = "row of the fault table"


@pytest.fixture
def add_row(request):
    """Add a row to the table; in the full matrix, which takes long, print it at once."""
    from fault_suite.report import cells

    def add(row):
        request.node.user_properties.append((ROW, asdict(row)))
        if request.config.getoption("--faults") == "full":
            with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
                print("", " | ".join(cells(row)), *row.violations, sep="\n  ", flush=True)

    return add


@pytest.fixture
def check_fault(pace, add_row):
    """Run a fault, add its row to the table, and fail if an invariant did not hold."""
    from fault_suite import scenario

    def check(fault, seed, cluster):
        wait_until(cluster.recovered, within=60, what="every service is ready, and the last fault is over")
        row = scenario.run(fault, cluster, pace, seed=seed)
        add_row(row)
        assert row.passed, "\n".join(row.violations)

    return check


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    """Print the table; write that of the full matrix to docs/faults.md, as far as it ran."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    values = [value for report in reports for name, value in report.user_properties if name == ROW]
    if not values:
        return
    from fault_suite.report import Row, table, write

    rows = [Row(**one) for one in values]
    terminalreporter.section("faults")
    terminalreporter.write_line(table(rows))
    all_rows = config.args == ["tests/faults"] and not config.getoption("keyword") and exitstatus in (0, 1)
    if config.getoption("--faults") == "full" and all_rows:
        write(rows, ROOT / "docs" / "faults.md")
