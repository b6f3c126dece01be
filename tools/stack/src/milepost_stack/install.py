"""Finds the server programs, and installs missing ones with the system's package manager after printing so."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from milepost_stack.errors import NotInstalled

Say = Callable[[str], None]


@dataclass(frozen=True)
class Program:
    """A program of a system package."""

    name: str
    #: Paths where packages install it outside the PATH.
    paths: tuple[str, ...]
    apt: str
    brew: str

    def find(self) -> str | None:
        """Return its path. The known paths come first: Debian's wrapper on the PATH requires root."""
        for path in self.paths:
            if os.access(path, os.X_OK):
                return path
        return shutil.which(self.name)


RABBITMQ = Program(
    "rabbitmq-server",
    (
        "/usr/lib/rabbitmq/bin/rabbitmq-server",
        "/opt/homebrew/sbin/rabbitmq-server",
        "/usr/local/sbin/rabbitmq-server",
    ),
    apt="rabbitmq-server",
    brew="rabbitmq",
)
EPMD = Program("epmd", ("/usr/bin/epmd", "/opt/homebrew/bin/epmd"), apt="erlang-base", brew="erlang")
REDIS = Program("redis-server", (), apt="redis-server", brew="redis")


USE_OWN_SERVERS = "set MILEPOST_RABBITMQ_URL and MILEPOST_REDIS_URL to your own servers"


def ensure(programs: tuple[Program, ...], say: Say, *, otherwise: str = USE_OWN_SERVERS) -> dict[str, str]:
    """Install missing programs, and return the path of each program.

    Args:
        programs: The programs to find.
        say: Prints a message.
        otherwise: The alternative to installing, for error messages.

    Raises:
        NotInstalled: A program can't be installed; the message says what to do.
    """
    if _missing(programs):
        with _install_lock(say):
            if missing := _missing(programs):  # another process may have installed them meanwhile
                _install(missing, say, otherwise)
    found = {program.name: program.find() for program in programs}
    absent = [name for name, path in found.items() if path is None]
    if absent:
        raise NotInstalled(f"{', '.join(absent)} can't be found after the installation; {otherwise}")
    return {name: path for name, path in found.items() if path is not None}


def _missing(programs: tuple[Program, ...]) -> list[Program]:
    return [program for program in programs if program.find() is None]


@contextmanager
def _install_lock(say: Say) -> Iterator[None]:
    """Hold the lock of this user's installations: a package manager fails while another one runs."""
    with (Path(tempfile.gettempdir()) / f"milepost-install-{os.getuid()}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another installation to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(missing: list[Program], say: Say, otherwise: str) -> None:
    if shutil.which("apt-get"):
        packages = sorted({program.apt for program in missing})
        say(f"installing {' and '.join(packages)} with apt-get; their system services are not started")
        sudo = _sudo(packages)
        with _services_not_started(sudo):
            _run([*sudo, "apt-get", "update", "-qq"])
            _run([*sudo, "apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages])
    elif shutil.which("brew"):
        packages = sorted({program.brew for program in missing})
        say(f"installing {' and '.join(packages)} with brew")
        _run(["brew", "install", "--quiet", *packages])
    else:
        names = " and ".join(program.name for program in missing)
        raise NotInstalled(f"{names} is missing, and so are apt-get and brew: install it yourself, or {otherwise}")


def _sudo(packages: list[str]) -> list[str]:
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        return ["sudo"]
    raise NotInstalled(
        f"the installation needs root, and there is no sudo: run 'apt-get install {' '.join(packages)}' as root"
    )


@contextmanager
def _services_not_started(sudo: list[str]) -> Iterator[None]:
    """Stop Debian from starting a server when its package is installed, with a `policy-rc.d` that forbids it."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    script = "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d"
    _run([*sudo, "sh", "-c", script])
    try:
        yield
    finally:
        _run([*sudo, "rm", "-f", str(policy)])


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-10:])
        raise NotInstalled(f"'{' '.join(command)}' failed:\n{tail}")
