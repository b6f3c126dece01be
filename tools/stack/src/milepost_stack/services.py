"""Milepost's own services as processes of a stack."""

import json
import sys
import urllib.request
from pathlib import Path

from milepost_stack.free_ports import any_port
from milepost_stack.state import ProcessState

READY_TIMEOUT = 60.0


def gateway(number: int, port: int, folder: Path, environment: dict[str, str]) -> ProcessState:
    url = f"http://127.0.0.1:{port}"
    return ProcessState(
        name=f"gateway-{number}",
        command=[sys.executable, "-m", "milepost_gateway"],
        environment={**environment, "MILEPOST_HOST": "127.0.0.1", "MILEPOST_PORT": str(port)},
        log=folder / f"gateway-{number}.log",
        url=url,
        ready_url=f"{url}/readyz",
    )


def background(kind: str, number: int, folder: Path, environment: dict[str, str]) -> ProcessState:
    """Return a tracker or processor, which serves only health and metrics over HTTP."""
    url = f"http://127.0.0.1:{(port := any_port())}"
    return ProcessState(
        name=f"{kind}-{number}",
        command=[sys.executable, "-m", f"milepost_{kind}"],
        environment={**environment, "MILEPOST_HEALTH_HOST": "127.0.0.1", "MILEPOST_HEALTH_PORT": str(port)},
        log=folder / f"{kind}-{number}.log",
        url=url,
        ready_url=f"{url}/readyz",
    )


def live_processors(gateway_url: str) -> int:
    """Return the number of live processors that the gateway reports; 0 if it does not answer."""
    try:
        with urllib.request.urlopen(f"{gateway_url}/readyz?verbose", timeout=5) as answer:  # noqa: S310 - our own
            return json.load(answer)["live_processors"] or 0
    except (OSError, ValueError):
        return 0
