"""Free TCP ports on loopback."""

import secrets
import socket

PORT_RANGE = range(15_000, 30_000)
"""Below the ephemeral ports: an outgoing connection may take one of those before the server has bound it."""
_returned: set[int] = set()
"""Ports already returned: a server may not have bound them yet."""


def free_port(wanted: int) -> int | None:
    """Return this port of 127.0.0.1, or `None` if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return None
        return wanted


def any_port() -> int:
    """Return a free port of 127.0.0.1; this process never gets the same one twice."""
    while (port := secrets.choice(PORT_RANGE)) in _returned or free_port(port) is None:
        pass
    _returned.add(port)
    return port
