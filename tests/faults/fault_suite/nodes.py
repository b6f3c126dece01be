"""Replicated servers: three RabbitMQ nodes, and a Redis with a replica."""

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from redis import Redis

from fault_suite.cluster import Cluster
from fault_suite.switch import Address, Switch
from milepost_contracts.permissions.users import deployment_users
from milepost_stack import install, processes, rabbitmq, redis_server
from milepost_stack.access import Access
from milepost_stack.stack import RABBITMQ_URL, REDIS_URL, Stack, service_settings
from milepost_stack.state import ProcessState

NAMES = ("rabbitmq-1", "rabbitmq-2", "rabbitmq-3")
SMALL_DISK_NODE = "rabbitmq-3"
"""The node with a small disk, if mounting one is permitted."""
SMALL_DISK_SIZE = 500
"""MB; RabbitMQ raises its disk alarm below 50 MB."""
CATCH_UP_TIMEOUT = 25
"""Seconds within which a restarted node must catch up; else the nodes are restarted, as by an operator."""


class Servers:
    """RabbitMQ's nodes behind a load balancer, and Redis behind a switch."""

    def __init__(self, folder: Path) -> None:
        """Start all servers, which takes about half a minute."""
        self.folder = folder
        self.access = Access.fresh(deployment_users("milepost"))
        self._switches: list[Switch] = []
        self.processes: list[ProcessState] = []
        self.small_disk = self._mount(folder / SMALL_DISK_NODE)
        programs = install.ensure((install.RABBITMQ, install.EPMD, install.REDIS), print)
        try:
            self._start_nodes(programs)
            self._start_redis(programs)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop all servers."""
        for switch in self._switches:
            switch.close()
        for process in reversed(self.processes):
            processes.stop(process)
        if self.small_disk:
            subprocess.run(["umount", self.folder / SMALL_DISK_NODE], check=True)
            self.small_disk = False

    @property
    def operator_urls(self) -> dict[str, str]:
        """The URLs of the servers by variable, with the operator's user."""
        operator = self.access.of("operator")
        return {name: self.access.url(server, operator) for name, server in self._servers.items()}

    @property
    def service_settings(self) -> dict[str, dict[str, str]]:
        """The settings of each service, with its own user."""
        return service_settings(self._servers, self.access)

    @property
    def _servers(self) -> dict[str, str]:
        return {RABBITMQ_URL: self.rabbitmq, REDIS_URL: self.redis}

    def _start_nodes(self, programs: dict[str, str]) -> None:
        servers, made = rabbitmq.nodes(self.folder, programs, NAMES, self.access)
        urls = [self.access.url(server, self.access.of("operator")) for server in servers]
        for process, url in zip(made, (None, *urls), strict=True):
            self._start(process, lambda url=url: url is None or rabbitmq.answers(url))  # type: ignore[misc]
        self.node_urls = dict(zip(NAMES, urls, strict=True))
        self.rabbitmq = f"amqp://127.0.0.1:{self._switched([_address(url) for url in urls]).port}/"

    def _start_redis(self, programs: dict[str, str]) -> None:
        self.redis_urls: dict[str, str] = {}
        self.redis_master, self.redis_replica = "redis", "redis-replica"
        for name in (self.redis_master, self.redis_replica):
            server, process = redis_server.process(self.folder / name, programs, self.access)
            url = self.redis_urls[name] = self.access.url(server, self.access.of("operator"))
            process.name = name
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            self._start(process, lambda url=url: redis_server.answers(url))  # type: ignore[misc]
        with Redis.from_url(self.redis_urls[self.redis_replica]) as replica:
            replica.replicaof(*map(str, _address(self.redis_urls[self.redis_master])))
        self.redis_switch = self._switched([_address(self.redis_urls[self.redis_master])])
        self.redis = f"redis://127.0.0.1:{self.redis_switch.port}/0"

    def _start(self, process: ProcessState, ready: Callable[[], bool]) -> None:
        processes.start(process)
        self.processes.append(process)
        processes.wait_ready(process, ready, rabbitmq.READY_TIMEOUT)

    def _switched(self, addresses: list[Address]) -> Switch:
        switch = Switch(addresses)
        self._switches.append(switch)
        return switch

    def _mount(self, folder: Path) -> bool:
        """Mount a disk for a node, if we are root; return whether it was done."""
        folder.mkdir(parents=True)
        words = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_SIZE}m", "milepost", str(folder)]
        return os.geteuid() == 0 and subprocess.run(words, check=False, capture_output=True).returncode == 0

    # Actions on servers.

    def fail_over(self, *, cut_every: int = 1) -> None:
        """Point the switch at the replica, whatever it has; cut every connection, or every second."""
        self.redis_master, self.redis_replica = self.redis_replica, self.redis_master
        self.redis_switch.point_at([_address(self.redis_urls[self.redis_master])], cut_every=cut_every)

    def replicate(self, demoted: Redis) -> None:
        """Make a demoted Redis a replica, which discards what it has, and cut its connections."""
        master = _address(self.redis_urls[self.redis_master])
        demoted.replicaof(*map(str, master))
        self.redis_switch.point_at([master])
        deadline = time.monotonic() + CATCH_UP_TIMEOUT
        while demoted.info("replication")["master_link_status"] != "up" and time.monotonic() < deadline:
            time.sleep(0.2)

    def fill_disk(self) -> Path:
        """Fill the small disk; return the file to remove afterwards."""
        filler = self.folder / SMALL_DISK_NODE / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1_000_000))
        return filler


def _address(url: str) -> Address:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


class Nodes(Cluster):
    """A stack on replicated servers."""

    def __init__(self, stack: Stack, ledger: str | Path, servers: Servers) -> None:
        state = stack.state
        assert state is not None
        state.processes[:0] = servers.processes
        state.save(stack.folder)
        super().__init__(stack, ledger)
        self.servers = servers

    def node_name(self, name: str) -> str:
        """Return the Erlang name of a node."""
        return self._process(name).environment["RABBITMQ_NODENAME"]

    def wait_until_dispensable(self, name: str) -> None:
        """Wait until every replicated queue has a quorum without this node; restart nodes that do not catch up."""
        for _ in range(len(NAMES)):
            if self._can_do_without(name):
                return
            for other in NAMES:
                if other != name:
                    self.terminate(other)
                    self._can_do_without(name)
        raise TimeoutError(f"the other nodes can't do without {name}")

    def _can_do_without(self, name: str) -> bool:
        deadline = time.monotonic() + CATCH_UP_TIMEOUT
        while not all(self._answers(other) for other in NAMES) or not self._is_dispensable(name):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True

    def _answers(self, name: str) -> bool:
        return rabbitmq.answers(self.servers.node_urls[name])

    def _is_dispensable(self, name: str) -> bool:
        with suppress(subprocess.CalledProcessError):
            self.rabbitmqctl("check_if_node_is_quorum_critical", node=name, program="rabbitmq-diagnostics")
            return True
        return False
