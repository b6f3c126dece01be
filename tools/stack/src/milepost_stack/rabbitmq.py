"""A private RabbitMQ node: its own data, ports, Erlang node name, cookie and port mapper; nothing of it is shared."""

import asyncio
import logging
import os
from pathlib import Path
from secrets import token_hex

import aio_pika
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_stack.install import EPMD, RABBITMQ
from milepost_stack.ports import any_port
from milepost_stack.state import ProcessState

READY_WITHIN = 90.0

# aiormq logs every refused connection; we ask until there is one.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)

CONSUMER_TIMEOUT = 43_200
"""Seconds for which a job may run; RabbitMQ before 3.12 takes it from nowhere but its own configuration."""

_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.console = true
log.console.level = info
log.file = false
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 33554432
consumer_timeout = {consumer_timeout}
"""


def processes(folder: Path, programs: dict[str, str]) -> tuple[str, list[ProcessState]]:
    """Return the URL of a node to be, and the processes that make it, in the order of their start."""
    data, port, mapper_port = folder / "rabbitmq", any_port(), any_port()
    home = data / "home"
    home.mkdir(parents=True, exist_ok=True)
    cookie = home / ".erlang.cookie"
    cookie.touch(mode=0o600)
    cookie.write_text(token_hex(16))
    cookie.chmod(0o400)
    (data / "rabbitmq.conf").write_text(_CONFIG.format(port=port, consumer_timeout=CONSUMER_TIMEOUT * 1000))
    (data / "enabled_plugins").write_text("[].\n")
    erlang = {
        "HOME": str(home),
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
    node = ProcessState(
        name="rabbitmq",
        command=[programs[RABBITMQ.name]],
        environment={
            **erlang,
            "RABBITMQ_NODENAME": f"milepost-{token_hex(4)}@localhost",
            "RABBITMQ_DIST_PORT": str(any_port()),
            "RABBITMQ_CONFIG_FILE": str(data / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(data / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(data / "log"),
            "RABBITMQ_PID_FILE": str(data / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # With this the start script becomes the node, so that the node gets our signals.
            "RUNNING_UNDER_SYSTEMD": "true",
        },
        log=folder / "rabbitmq.log",
    )
    return f"amqp://guest:guest@127.0.0.1:{port}/", [mapper, node]


def answers(url: str) -> bool:
    """Whether the broker lets us in now."""

    async def connect() -> bool:
        try:
            connection = await aio_pika.connect(url, timeout=5)
        except (*CONNECTION_EXCEPTIONS, TimeoutError):
            return False
        await connection.close()
        return True

    return asyncio.run(connect())
