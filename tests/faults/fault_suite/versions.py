"""A cluster whose services run one of two versions of the code, and what each version did there."""

import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from fault_suite.cluster import Cluster
from milepost_stack import processes, services
from milepost_stack.free_ports import any_port
from milepost_stack.stack import Stack

ORDER = ("tracker", "processor", "gateway")
"""The order in which services are upgraded (docs/how-to/run-it.md); a rollback has the reverse one."""
PREVIOUS, THIS = "previous", "this"
WORK = {
    "tracker": "milepost_events_projected_total",
    "processor": "milepost_jobs_finished_total",
    "gateway": "milepost_jobs_submitted_total",
}
"""The metric that says how much a service has done."""
UNITS = {"tracker": "events projected", "processor": "jobs run", "gateway": "submissions accepted"}
KEPT_QUEUES = (".log.jobs", ".poison")
"""Queues that need not be empty when the cluster is idle."""


def start_services(stack: Stack, python: Path, sizes: Mapping[str, int]) -> None:
    """Start services of the version that a Python has, in a stack with only servers; return once all are ready.

    Raises:
        StartFailed: One did not become ready.
    """
    state = stack.state
    assert state is not None
    made = []
    for kind in ORDER:
        for number in range(1, sizes[kind] + 1):
            if kind == "gateway":
                process = services.gateway(number, any_port(), stack.folder, state.environment)
            else:
                process = services.background(kind, number, stack.folder, state.environment)
            process.command[0] = str(python)
            processes.start(process)
            stack.adopt(process)
            made.append(process)
    for process in made:
        processes.wait_ready(process, partial(processes.answers, str(process.ready_url)), services.READY_TIMEOUT)


class TwoVersions(Cluster):
    """A cluster whose services run the previous version or this one."""

    def __init__(self, stack: Stack, ledger: str | Path, previous: Path) -> None:
        """Prepare.

        Args:
            stack: A stack whose services were started by `start_services`.
            ledger: Where handlers record their starts and ends.
            previous: The Python that has the previous version.
        """
        super().__init__(stack, ledger)
        self._pythons = {PREVIOUS: str(previous), THIS: sys.executable}
        #: What each process had done when it was asked last, by its pid, with its kind and version.
        self._done: dict[int, tuple[str, str, int]] = {}

    def version_of(self, name: str) -> str | None:
        """Return the version of a process, from its command line as the kernel has it; None if it does not run."""
        found = processes.find(self._process(name))
        python = found.cmdline()[0] if found else ""
        return next((version for version, path in self._pythons.items() if path == python), None)

    def replace(self, name: str, version: str) -> bool:
        """Run a service with a version, and wait until all services are ready; return whether it ran another one."""
        if self.version_of(name) == version:
            return False
        self._process(name).command[0] = self._pythons[version]
        self.terminate(name)
        self.wait_until_ready()
        return self.version_of(name) == version

    def terminate(self, name: str) -> None:
        """Restart a process gracefully; what it has done so far counts."""
        self._ask(name)
        super().terminate(name)

    def done(self) -> Counter[tuple[str, str]]:
        """Return how much the processes of each kind and version have done; of a killed one, what it said last."""
        counted: Counter[tuple[str, str]] = Counter()
        for kind in ORDER:
            for name in self.names(kind):
                self._ask(name)
        for kind, version, count in self._done.values():
            counted[kind, version] += count
        return counted

    def _ask(self, name: str) -> None:
        """Ask a process how much it has done; one that was killed does not answer."""
        pid, version, kind = self.pid(name), self.version_of(name), name.partition("-")[0]
        with suppress(httpx.HTTPError):
            text = httpx.get(f"{self._process(name).url}/metrics", timeout=5).text
            samples = (one for family in text_string_to_metric_families(text) for one in family.samples)
            if pid is not None and version is not None:
                count = int(sum(one.value for one in samples if one.name == WORK[kind]))
                self._done[pid] = kind, version, count

    def depths(self) -> dict[str, int]:
        """Return the number of ready messages in each queue of either version that is empty when the cluster is idle.

        Asked of RabbitMQ itself: the versions may have different queues.
        """
        lines = self.rabbitmqctl("list_queues", "name", "messages_ready", "--no-table-headers").splitlines()
        found = {name: int(count) for name, count in (line.split("\t") for line in lines)}
        return {name: count for name, count in found.items() if count and not name.endswith(KEPT_QUEUES)}
