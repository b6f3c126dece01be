"""Free TCP ports on loopback."""

import socket


def free_port(wanted: int = 0) -> int | None:
    """Return a free port of 127.0.0.1: `wanted` itself, or any for 0; nothing if `wanted` is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return None
        port: int = probe.getsockname()[1]
        return port


def any_port() -> int:
    """Return some free port of 127.0.0.1."""
    port = free_port()
    assert port is not None  # noqa: S101 - the system hands one out
    return port
