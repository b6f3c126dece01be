"""A private RabbitMQ node, with its own data, ports, Erlang node name, cookie and port mapper."""

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex

import aio_pika
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_stack.access import Access, write_private
from milepost_stack.free_ports import any_port
from milepost_stack.install import EPMD, RABBITMQ
from milepost_stack.state import ProcessState

READY_TIMEOUT = 90.0

# aiormq logs every refused connection, and we retry until one succeeds.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)

CONSUMER_TIMEOUT = 32 * 24 * 3_600
"""Seconds for which a job may run, more than the longest `max_runtime`. Before 3.12, RabbitMQ reads it from its own
configuration only."""

DEAD_LETTER_CONFIRM_TIMEOUT = 10
"""Seconds until a dead-lettered message without a confirm is published again; RabbitMQ's default is 180."""
NET_TICK_TIME = 8
"""Seconds after which nodes treat a silent node as down. A stream that lost its leader waits that long."""

_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.console = true
log.console.level = info
log.file = false
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 33554432
max_message_size = 1048576
consumer_timeout = {consumer_timeout}
load_definitions = {definitions}
"""


def processes(folder: Path, programs: dict[str, str], access: Access) -> tuple[str, list[ProcessState]]:
    """Return the URL of a node, without a user, and its processes in the order in which to start them."""
    (url,), made = nodes(folder, programs, ["rabbitmq"], access)
    return url, made


def nodes(
    folder: Path, programs: dict[str, str], names: Sequence[str], access: Access
) -> tuple[list[str], list[ProcessState]]:
    """Return the URLs of nodes, without a user, and their processes: the port mapper, then the nodes.

    Several nodes form one cluster if each is started after the previous one is ready.
    """
    definitions = access.definitions()
    mapper_port = any_port()
    erlang = {
        "HOME": str(_home(folder)),
        "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    mapper = ProcessState(
        name="epmd",
        command=[programs[EPMD.name], "-port", str(mapper_port), "-address", "127.0.0.1"],
        environment=erlang,
        log=folder / "epmd.log",
    )
    node_names = [f"milepost-{token_hex(4)}@localhost" for _ in names]
    urls, made = [], [mapper]
    for name, node_name in zip(names, node_names, strict=True):
        port = any_port()
        data = folder / name
        data.mkdir(parents=True, exist_ok=True)
        write_private(data / "definitions.json", definitions)
        config = _CONFIG.format(
            port=port, consumer_timeout=CONSUMER_TIMEOUT * 1000, definitions=data / "definitions.json"
        )
        (data / "rabbitmq.conf").write_text(config + (_peers(node_names) if len(names) > 1 else ""))
        (data / "enabled_plugins").write_text("[].\n")
        urls.append(f"amqp://127.0.0.1:{port}/")
        made.append(_node(name, node_name, data, {**erlang, "ERL_CRASH_DUMP": str(data / "erl_crash.dump")}, programs))
    return urls, made


def _home(folder: Path) -> Path:
    """Create the home folder with the Erlang cookie, which authenticates nodes to each other."""
    home = folder / "rabbitmq" / "home"
    home.mkdir(parents=True, exist_ok=True)
    cookie = home / ".erlang.cookie"
    cookie.touch(mode=0o600)
    cookie.write_text(token_hex(16))
    cookie.chmod(0o400)
    return home


def _peers(node_names: Sequence[str]) -> str:
    lines = ["cluster_partition_handling = pause_minority"]
    lines += [f"cluster_formation.classic_config.nodes.{n} = {name}" for n, name in enumerate(node_names, 1)]
    return "\n".join(lines) + "\n"


def _node(name: str, node_name: str, data: Path, erlang: dict[str, str], programs: dict[str, str]) -> ProcessState:
    return ProcessState(
        name=name,
        command=[programs[RABBITMQ.name]],
        environment={
            **erlang,
            "RABBITMQ_NODENAME": node_name,
            "RABBITMQ_DIST_PORT": str(any_port()),
            "RABBITMQ_CONFIG_FILE": str(data / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(data / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(data / "log"),
            "RABBITMQ_PID_FILE": str(data / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-kernel inet_dist_use_interface {{127,0,0,1}} -kernel net_ticktime {NET_TICK_TIME}"
                f" -rabbit dead_letter_worker_publisher_confirm_timeout {DEAD_LETTER_CONFIRM_TIMEOUT * 1000}"
            ),
            # Makes the start script exec the node, so that the node receives our signals.
            "RUNNING_UNDER_SYSTEMD": "true",
        },
        log=data.parent / f"{name}.log",
        folder=data,
    )


def answers(url: str) -> bool:
    """Return whether the broker accepts a connection now."""

    async def connect() -> bool:
        try:
            connection = await aio_pika.connect(url, timeout=5)
        except (*CONNECTION_EXCEPTIONS, TimeoutError):
            return False
        await connection.close()
        return True

    return asyncio.run(connect())
