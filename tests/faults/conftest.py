"""`make test` runs a short form of the starred faults; `make faults` the whole matrix, once for each seed."""

from dataclasses import asdict
from pathlib import Path

import pytest
from waiting import wait_until

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def pytest_addoption(parser):
    group = parser.getgroup("faults")
    group.addoption("--faults", choices=("short", "whole"), default="short", help="how much of the fault matrix")
    group.addoption("--seeds", default="1", help="seeds of the load, separated by commas")


def pytest_generate_tests(metafunc):
    """Run every row of the module's matrix with each seed, or those with a star."""
    if "fault" in metafunc.fixturenames:
        whole = metafunc.config.getoption("--faults") == "whole"
        rows = [fault for fault in metafunc.module.MATRIX if whole or fault.star]
        seeds = [int(seed) for seed in metafunc.config.getoption("--seeds").split(",")]
        metafunc.parametrize("seed", seeds, ids="seed {}".format, scope="module")
        metafunc.parametrize("fault", rows, ids=[fault.name for fault in rows])


@pytest.fixture(scope="session")
def pace(request):
    from fault_suite.scenario import Pace

    if request.config.getoption("--faults") == "whole":
        return Pace(rate=16, before=2, scale=0.5, slow=5_000)
    return Pace(rate=10, before=1, scale=0.2, slow=1_000, lenience=4.0)


@pytest.fixture(scope="session")
def chaos_settings(tmp_path_factory):
    """The services' settings: handlers that misbehave, and short patience."""
    return {
        "PYTHONPATH": str(HERE),
        "CHAOS_LEDGER": str(tmp_path_factory.mktemp("faults") / "ledger.jsonl"),
        "MILEPOST_HANDLERS": "chaos_jobs",
        "MILEPOST_THREADS": "8",
        "MILEPOST_DRAIN_TIMEOUT": "2",
        "MILEPOST_CANCEL_GRACE": "2",
        "MILEPOST_GATE_PATIENCE": "5",
        "MILEPOST_HEARTBEAT": "10",
    }


@pytest.fixture(scope="module")
def cluster(start_stack, chaos_settings, seed):
    """Two gateways, three processors, two trackers, and an orchestrator; new ones for each seed, with an empty log."""
    from fault_suite.cluster import Cluster

    stack = start_stack("faults", gateways=2, processors=3, trackers=2, settings=chaos_settings)
    made = Cluster(stack, chaos_settings["CHAOS_LEDGER"])
    yield made
    made.close()
    stack.down()


@pytest.fixture(scope="module")
def nodes(start_stack, chaos_settings, tmp_path_factory, seed):
    """The same on three RabbitMQ nodes behind a load balancer, and a Redis with a replica behind a switch.

    New ones for each seed: a Redis fails over once, and a stream's replicas do not all come back after a full disk.
    """
    from fault_suite.nodes import Nodes, Servers

    from milepost_stack.rabbitmq import CONSUMER_TIMEOUT

    servers = Servers(tmp_path_factory.mktemp("servers"))
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("MILEPOST_RABBITMQ_URL", servers.rabbitmq_url)
            environment.setenv("MILEPOST_REDIS_URL", servers.redis_url)
            settings = {**chaos_settings, "MILEPOST_CONSUMER_TIMEOUT": str(CONSUMER_TIMEOUT)}
            stack = start_stack("nodes", gateways=2, processors=3, trackers=2, settings=settings)
        made = Nodes(stack, chaos_settings["CHAOS_LEDGER"], servers)
        yield made
        made.close()
        stack.down()
    finally:
        servers.close()


ROW = "row of the fault table"


@pytest.fixture
def note(request):
    """Take a row of the table; the whole matrix takes long, so its rows are shown as they come."""
    from fault_suite.report import cells

    def add(row):
        request.node.user_properties.append((ROW, asdict(row)))
        if request.config.getoption("--faults") == "whole":
            with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
                print("", " | ".join(cells(row)), *row.faults, sep="\n  ", flush=True)

    return add


@pytest.fixture
def held(pace, note):
    """Judge a fault: run it, note its row of the table, and fail where it broke the promise."""
    from fault_suite import scenario

    def judge(fault, seed, cluster):
        wait_until(cluster.settled, within=60, what="every service is ready, and the last fault over")
        row = scenario.run(fault, cluster, pace, seed=seed)
        note(row)
        assert row.held, "\n".join(row.faults)

    return judge


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    """Print the table; the whole matrix is written down too, as far as it came."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    told = [value for report in reports for name, value in report.user_properties if name == ROW]
    if not told:
        return
    from fault_suite.report import table, write
    from fault_suite.scenario import Row

    rows = [Row(**one) for one in told]
    terminalreporter.section("faults")
    terminalreporter.write_line(table(rows))
    whole = config.args == ["tests/faults"] and not config.getoption("keyword") and exitstatus in (0, 1)
    if config.getoption("--faults") == "whole" and whole:
        write(rows, ROOT / "docs" / "faults.md")
