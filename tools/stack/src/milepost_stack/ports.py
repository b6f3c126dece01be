"""Free TCP ports on loopback."""

import secrets
import socket

CHOICE = range(15_000, 30_000)
"""Below the ports that systems hand out to outgoing connections: those may be taken before a server has started."""
_given: set[int] = set()
"""What was handed out: a server may not have bound it yet."""


def free_port(wanted: int) -> int | None:
    """Return this port of 127.0.0.1, or nothing if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return None
        return wanted


def any_port() -> int:
    """Return some free port of 127.0.0.1, and never the same one twice."""
    while (port := secrets.choice(CHOICE)) in _given or free_port(port) is None:
        pass
    _given.add(port)
    return port
