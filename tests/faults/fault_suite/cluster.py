"""The system under test: a complete Milepost on loopback, whose processes can be killed, frozen and restarted."""

import asyncio
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import aio_pika
import psutil
from aio_pika.abc import AbstractConnection
from redis import Redis

from milepost_contracts.messages.topology import Topology
from milepost_contracts.status.redis_keys import Keys
from milepost_stack import install, processes
from milepost_stack.stack import Stack
from milepost_stack.state import ProcessState, StackState

MAX_MEMORY = 500_000_000
"""Bytes; a service that takes more is killed, as the kernel of a container would."""
READY_TIMEOUT = 60.0
RESTART_INTERVAL = 0.5
"""Seconds between checks for ended services, which are restarted, as by an orchestrator."""


class Cluster:
    """One stack, with an orchestrator that restarts every service that ends, unless it is held down."""

    def __init__(self, stack: Stack, ledger: str | Path) -> None:
        state = stack.state
        assert state is not None
        self.stack = stack
        self._state: StackState = state
        self.ledger = Path(ledger)
        self.topology = Topology()
        #: How often each service ended by itself, or took too much memory, and was restarted.
        self.restarts: Counter[str] = Counter()
        #: When and how the jobs of earlier rows ended, by id.
        self.ends: dict[str, tuple[float, dict[str, object]]] = {}
        #: When the snapshot was taken that `restore_redis` restores; Unix time.
        self.snapshot_at = time.time()
        self._take_snapshot()
        self._held_down: set[str] = set()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._orchestrator = threading.Thread(target=self._orchestrate, name="orchestrator", daemon=True)
        self._orchestrator.start()

    def close(self) -> None:
        self._closed.set()
        self._orchestrator.join()

    # Processes and addresses.

    def names(self, kind: str) -> list[str]:
        """Return the names of all processes of a kind, for example `processor`."""
        return [one.name for one in self._state.processes if one.name.startswith(f"{kind}-")]

    def urls(self) -> list[str]:
        """Return the URLs of the gateways."""
        return [str(one.url) for one in self._state.processes if one.name.startswith("gateway-")]

    @property
    def rabbitmq_url(self) -> str:
        return self._state.rabbitmq_url

    def rabbitmq_url_of(self, service: str) -> str:
        """Return the URL that a service uses, with its own user."""
        return self._state.environment_of(service)["MILEPOST_RABBITMQ_URL"]

    @property
    def redis(self) -> Redis:
        return Redis.from_url(self._state.redis_url, socket_timeout=5)

    # Actions on processes.

    def log_of(self, name: str) -> Path:
        """Return the log of a process."""
        return self._process(name).log

    def pid(self, name: str) -> int | None:
        """Return the pid of a process; None if it does not run."""
        found = processes.find(self._process(name))
        return None if found is None else found.pid

    def kill(self, name: str) -> int:
        """Kill a process (SIGKILL), and wait until it is gone; return 1, or 0 if it did not run."""
        with self._lock:
            found = processes.find(self._process(name))
            if found is None:
                return 0
            with suppress(psutil.NoSuchProcess):  # it may end by itself
                found.kill()
            self._wait_until_gone(name)
            return 1 if processes.find(self._process(name)) is None else 0

    def stop(self, name: str) -> None:
        """Stop a process (SIGTERM), and wait for it; the orchestrator restarts it, unless it is held down."""
        processes.stop(self._process(name))

    def terminate(self, name: str) -> None:
        """Restart a process gracefully."""
        with self.held_down(name):
            self.stop(name)

    @contextmanager
    def held_down(self, *names: str) -> Iterator[None]:
        """Keep these processes down if they end, until the block ends; then restart them."""
        self._held_down.update(names)
        try:
            yield
        finally:
            self._held_down.difference_update(names)
            for name in names:
                self.bring_back(name)

    @contextmanager
    def changed(self, name: str, **environment: str) -> Iterator[None]:
        """Run a service with more environment variables until the block ends."""
        process = self._process(name)
        before = process.environment
        process.environment = before | environment
        try:
            self.terminate(name)
            yield
        finally:
            process.environment = before
            self.terminate(name)

    @contextmanager
    def running(self, handlers: dict[str, str]) -> Iterator[None]:
        """Run processors with other handlers, by name, until the block ends; it begins with all services ready."""
        with ExitStack() as changes:
            for name, modules in handlers.items():
                changes.enter_context(self.changed(name, MILEPOST_HANDLERS=modules))
            self.wait_until_ready()
            yield

    def wait_until_ready(self) -> None:
        """Wait until every service is ready."""
        deadline = time.monotonic() + READY_TIMEOUT
        while not self.all_ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not every service was ready within {READY_TIMEOUT:.0f} s")
            time.sleep(0.2)

    def memory(self) -> dict[str, int]:
        """Return the resident memory of each service, in bytes."""
        found = {one.name: processes.find(one) for one in self._services()}
        return {name: process.memory_info().rss for name, process in found.items() if process is not None}

    @contextmanager
    def frozen(self, *names: str) -> Iterator[int]:
        """Freeze processes (SIGSTOP) until the block ends; yield how many the kernel reports as stopped."""
        found = [one for one in (processes.find(self._process(name)) for name in names) if one is not None]
        self._signal(found, signal.SIGSTOP)
        try:
            yield sum(_is_stopped(one) for one in found)
        finally:
            self._signal(found, signal.SIGCONT)

    def _signal(self, found: Iterable[psutil.Process], number: int) -> None:
        for one in found:
            with suppress(psutil.NoSuchProcess):  # another fault may have killed it
                one.send_signal(number)

    def bring_back(self, name: str) -> None:
        """Start a process that has ended."""
        with self._lock:
            process = self._process(name)
            if processes.find(process) is None:
                processes.start(process)
                self._state.save(self.stack.folder)

    def all_ready(self) -> bool:
        """Return whether every service is ready."""
        urls = [one.ready_url for one in self._state.processes if one.ready_url]
        return all(processes.answers(url) for url in urls)

    def recovered(self) -> bool:
        """Return whether all services are ready and no killed tracker delays the trust in a new Redis."""
        trackers = sum(one.name.startswith("tracker") for one in self._state.processes)
        return self.all_ready() and self.redis.hlen(Keys().trackers) <= trackers

    # Redis.

    @property
    def _redis_data(self) -> Path:
        return self.log_of("redis").parent / "redis" / "appendonlydir"

    def _take_snapshot(self) -> None:
        shutil.copytree(self._redis_data, self._redis_data.with_name("snapshot"))

    def restore_redis(self) -> None:
        """Replace the data of Redis, which must be down, with those from the beginning."""
        shutil.rmtree(self._redis_data)
        shutil.copytree(self._redis_data.with_name("snapshot"), self._redis_data)

    # The broker.

    def rabbitmqctl(self, *words: str, node: str = "rabbitmq", program: str = "rabbitmqctl") -> str:
        """Run one of RabbitMQ's own commands against a node, and return its output."""
        process = self._process(node)
        found = install.Program(program, (f"/usr/lib/rabbitmq/bin/{program}",), apt="", brew="").find()
        done = subprocess.run(
            [str(found), "-q", "-n", process.environment["RABBITMQ_NODENAME"], *words],
            env={"PATH": "/usr/bin:/bin:/usr/sbin", **process.environment},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    def restore_users(self) -> None:
        """Give RabbitMQ's users the passwords and permissions that they had at its start."""
        self.rabbitmqctl("import_definitions", str(self.log_of("rabbitmq").parent / "rabbitmq" / "definitions.json"))

    def at_broker(self, act: Callable[[AbstractConnection], Awaitable[Any]]) -> Any:
        """Run `act` with an AMQP connection of its own."""

        async def connected() -> Any:
            async with await aio_pika.connect(self.rabbitmq_url, timeout=10) as connection:
                return await act(connection)

        return asyncio.run(connected())

    def depths(self) -> dict[str, int]:
        """Return the number of ready messages in each queue that is empty when the cluster is idle."""
        topology = self.topology
        queues = [
            topology.dead_letter_queue,
            topology.unrouted_queue,
            topology.lifecycle,
            *topology.work_queues(["default"]),
            *topology.delay_queues,
        ]

        async def look(connection: AbstractConnection) -> dict[str, int]:
            channel = await connection.channel()
            found = {}
            for queue in queues:
                declared = await channel.declare_queue(queue.name, passive=True)
                found[queue.name] = declared.declaration_result.message_count or 0
            return {name: count for name, count in found.items() if count}

        answer: dict[str, int] = self.at_broker(look)
        return answer

    # Private.

    def _services(self) -> list[ProcessState]:
        return [one for one in self._state.processes if one.ready_url]

    def _process(self, name: str) -> ProcessState:
        process = self._state.process(name)
        if process is None:
            raise KeyError(name)
        return process

    def _wait_until_gone(self, name: str) -> None:
        deadline = time.monotonic() + 5
        while processes.find(self._process(name)) is not None and time.monotonic() < deadline:
            time.sleep(0.01)

    def _orchestrate(self) -> None:
        while not self._closed.wait(RESTART_INTERVAL):
            for process in self._services():
                found = processes.find(process)
                if found is None and process.name not in self._held_down:
                    self.restarts[process.name] += 1
                    self.bring_back(process.name)
                elif found is not None and _bytes_of(found) > MAX_MEMORY:
                    self.kill(process.name)


def _is_stopped(process: psutil.Process) -> bool:
    """Return whether a process that got SIGSTOP has stopped, within a second."""
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_STOPPED:
                return True
        time.sleep(0.01)
    return False


def _bytes_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
