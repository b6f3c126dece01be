"""The systems that are measured: how each is started, and how its jobs are submitted and polled.

Each has one HTTP process and one worker process with eight threads, or eight tasks if it has no threads.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import unquote, urlsplit

import load

ROOT = Path(__file__).resolve().parent.parent
BIN, ARQ, MILEPOST = Path(sys.executable).parent, ROOT / "bench" / ".venv-arq" / "bin", ROOT / ".venv" / "bin"
PORT = 18_400
"""The port of the HTTP process; further gateways use the next ones."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A system, and the requests to it."""

    name: str
    #: Whether a job survives its processes; only such systems are compared with each other.
    durable: bool = True
    #: The HTTP process first, the worker second.
    commands: Mapping[str, list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    #: The path of jobs.
    jobs_path: str = "/jobs"
    port: int = PORT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def submission(self, job_type: str, **params: Any) -> bytes:
        """Return the request that submits a job."""
        return load.post(self.jobs_path, json.dumps({"type": job_type, "params": params}).encode())

    def poll(self, job_id: str, *headers: str) -> bytes:
        """Return the request that polls a job."""
        return load.get(f"{self.jobs_path}/{job_id}", *headers)


def _uvicorn(app: str, programs: Path = BIN) -> list[str]:
    options = ["--port", str(PORT), "--no-access-log", "--log-level", "warning"]
    return [str(programs / "uvicorn"), app, *options]


def _celery(name: str, **environment: str) -> System:
    worker = ["-A", "celery_app", "worker", "--pool", "threads", "--concurrency", "8", "--loglevel", "WARNING"]
    return System(
        name=name,
        commands={"http": _uvicorn("celery_app:api"), "worker": [str(BIN / "celery"), *worker]},
        environment=environment,
    )


def broker_user() -> str:
    """Return the user with which everything here connects to RabbitMQ."""
    return unquote(urlsplit(os.environ["MILEPOST_RABBITMQ_URL"]).username or "guest")


def milepost() -> System:
    """Return Milepost with a new namespace, so that it shares no queue and no Redis key with earlier measurements."""

    def service(name: str) -> list[str]:
        return [str(MILEPOST / "python"), "-m", f"milepost_{name}"]

    return System(
        name="milepost",
        jobs_path="/v1/jobs",
        commands={"http": service("gateway"), "worker": service("processor"), "tracker": service("tracker")},
        environment={
            "MILEPOST_NAMESPACE": f"bench-{token_hex(3)}",
            "MILEPOST_PORT": str(PORT),
            "MILEPOST_HEALTH_PORT": "0",
            "MILEPOST_HANDLERS": "bench_jobs",
            "MILEPOST_THREADS": "8",
            "MILEPOST_LOG_LEVEL": "warning",
            "MILEPOST_ID_KEYS": "1:" + "ab" * 32,
            **{f"MILEPOST_{role}_USERS": broker_user() for role in ("GATEWAY", "TRACKER", "PROCESSOR")},
            "MILEPOST_BLOBS_URL": (ROOT / ".milepost" / "bench-blobs").as_uri(),
            "PYTHONPATH": str(ROOT / "bench"),
        },
    )


PEERS = (
    _celery("celery"),
    _celery("celery, safe", SAFE="1"),
    System(
        name="taskiq",
        commands={
            "http": _uvicorn("taskiq_app:api"),
            "worker": [str(BIN / "taskiq"), "worker", "taskiq_app:broker", "--workers", "1", "--max-async-tasks", "8",
                       "--log-level", "WARNING"],
        },
    ),
    System(
        name="arq",
        commands={"http": _uvicorn("arq_app:api", ARQ), "worker": [str(ARQ / "arq"), "arq_app.WorkerSettings"]},
    ),
    System(
        name="dramatiq",
        commands={
            "http": _uvicorn("dramatiq_app:api"),
            "worker": [str(BIN / "dramatiq"), "dramatiq_app", "--processes", "1", "--threads", "8"],
        },
    ),
    System(name="dict", durable=False, commands={"http": _uvicorn("dict_app:api")}),
)  # fmt: skip

FLOORS = (
    System(name="raw ASGI", commands={"http": _uvicorn("floor_apps:raw")}),
    System(name="FastAPI hello", commands={"http": _uvicorn("floor_apps:hello")}),
)


def environment(system: System) -> dict[str, str]:
    """Return the environment of its processes."""
    return {
        **os.environ,
        "BROKER": os.environ["MILEPOST_RABBITMQ_URL"],
        "RESULTS": os.environ["MILEPOST_REDIS_URL"],
        "PYTHONPATH": str(ROOT / "bench" / "peers"),
        "PYTHONWARNINGS": "ignore",
        **system.environment,
    }
