"""A private Redis server on a free port."""

from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from milepost_stack.free_ports import any_port
from milepost_stack.install import REDIS
from milepost_stack.state import ProcessState

READY_TIMEOUT = 20.0


def process(folder: Path, programs: dict[str, str]) -> tuple[str, ProcessState]:
    """Return the URL of a server, and its process to start."""
    data, port = folder / "redis", any_port()
    data.mkdir(parents=True, exist_ok=True)
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(data),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    made = ProcessState(name="redis", command=[programs[REDIS.name], *words], environment={}, log=folder / "redis.log")
    return f"redis://127.0.0.1:{port}/0", made


def answers(url: str) -> bool:
    """Return whether the server answers a PING now."""
    try:
        with Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2) as client:
            return bool(client.ping())
    except (RedisError, OSError):
        return False
