"""A private Redis server on a free port."""

from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from milepost_stack.access import Access, write_private
from milepost_stack.free_ports import any_port
from milepost_stack.install import REDIS
from milepost_stack.state import ProcessState

READY_TIMEOUT = 20.0


def process(folder: Path, programs: dict[str, str], access: Access) -> tuple[str, ProcessState]:
    """Return the URL of a server, without a user, and its process to start."""
    data, port = folder / "redis", any_port()
    data.mkdir(parents=True, exist_ok=True)
    operator = access.of("operator").name
    write_private(data / "users.acl", access.acl())
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(data),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "aclfile": str(data / "users.acl"),
        # For a replica of this server, if somebody makes it one.
        "masteruser": operator,
        "masterauth": access.passwords[operator],
    }
    config = data / "redis.conf"
    write_private(config, "".join(f'{name} "{value}"\n' for name, value in options.items()))
    command = [programs[REDIS.name], str(config)]
    made = ProcessState(name="redis", command=command, environment={}, log=folder / "redis.log")
    return f"redis://127.0.0.1:{port}/0", made


def answers(url: str) -> bool:
    """Return whether the server answers a PING now."""
    try:
        with Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2) as client:
            return bool(client.ping())
    except (RedisError, OSError):
        return False
