"""A complete Milepost: the servers are started first, then the services; all are stopped in reverse order."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from urllib.parse import unquote, urlsplit

from milepost_contracts.permissions.users import UserRole, deployment_users, user_settings
from milepost_stack import install, processes, rabbitmq, redis_server, services
from milepost_stack.access import Access
from milepost_stack.errors import AlreadyUp, NotUp, StackError, StartFailed
from milepost_stack.free_ports import any_port, free_port
from milepost_stack.state import ProcessState, StackState

Say = Callable[[str], None]

RABBITMQ_URL, REDIS_URL, ALLOW = "MILEPOST_RABBITMQ_URL", "MILEPOST_REDIS_URL", "MILEPOST_ALLOW"
ID_KEYS, SEAL_KEYS = "MILEPOST_ID_KEYS", "MILEPOST_SEAL_KEYS"
NAMESPACE, DEFAULT_NAMESPACE = "MILEPOST_NAMESPACE", "milepost"
SERVICES: tuple[UserRole, ...] = ("gateway", "tracker", "processor")
CLIENT_SETTINGS = ("MILEPOST_URL", "MILEPOST_API_KEY", "MILEPOST_API_KEY_FILE")
"""Settings of the `milepost` command, which no service reads."""
DEFAULT_PORT = 8800


@dataclass(frozen=True, kw_only=True)
class Size:
    """The number of processes of each service."""

    gateways: int = 1
    processors: int = 1
    trackers: int = 1


class Stack:
    """One named stack below a folder. Several can run side by side."""

    def __init__(self, root: Path, name: str, say: Say) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", name):
            raise StackError(f"invalid stack name {name!r}: use up to 41 lower-case letters, digits and hyphens")
        self.name = name
        self.folder = (root / name).resolve()
        self._say = say

    @property
    def state(self) -> StackState | None:
        """What was started, running or not; `None` if there is no such stack."""
        return StackState.load(self.folder)

    def up(
        self,
        size: Size,
        *,
        port: int | None = None,
        settings: dict[str, str] | None = None,
        own_settings: dict[str, dict[str, str]] | None = None,
    ) -> StackState:
        """Start everything and return once a job can be submitted.

        Args:
            size: Number of each service; with 0 of all three, only RabbitMQ and Redis are started.
            port: Port of the first gateway; 0 for a free one. By default 8800, or a free one if that is taken.
            settings: More environment variables for the services.
            own_settings: Those of each service, if the environment names servers that have a user for each: see
                `service_settings`.

        Raises:
            AlreadyUp: A stack of this name is running.
            StackError: Something did not start; nothing is left running.
        """
        _inherited_settings(os.environ)
        old = self.state
        if old is not None and any(processes.find(process) for process in old.processes):
            how = f"press Ctrl-C in its terminal, or run 'stack down --name {self.name}'"
            raise AlreadyUp(f"the stack {self.name!r} is up already: to stop it, {how}")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        state = StackState(name=self.name, url=None, rabbitmq_url="", redis_url="", own_settings=own_settings or {})
        try:
            self._start_servers(
                state, (settings or {}).get(NAMESPACE) or os.environ.get(NAMESPACE) or DEFAULT_NAMESPACE
            )
            self._start_services(state, size, port, settings or {})
        except BaseException:
            self._stop_all(state)
            raise
        return state

    def down(self) -> None:
        """Stop everything that this stack started and remove its data. The logs are kept.

        Raises:
            NotUp: There is no such stack.
        """
        state = self.state
        if state is None:
            raise NotUp(f"there is no stack {self.name!r}")
        self._stop_all(state)

    def restart(self, name: str) -> ProcessState:
        """Stop one process gracefully and start it again.

        Raises:
            NotUp: There is no such process.
            StartFailed: It did not become ready again.
        """
        state, process = self._named(name)
        old = process.model_copy()
        process.pid = 0  # a `Supervisor` elsewhere must not take this for a crash
        state.save(self.folder)
        processes.stop(old)
        processes.start(process)
        state.save(self.folder)
        self._wait(state, process)
        return process

    def revive(self, name: str) -> None:
        """Restart a process that has ended, without waiting for it.

        Raises:
            NotUp: There is no such process.
        """
        state, process = self._named(name)
        if not state.stopping and processes.find(process) is None:
            processes.start(process)
            state.save(self.folder)

    def adopt(self, process: ProcessState) -> None:
        """Add a process that the caller started, or replace the one of its name, so that `down` stops it.

        Raises:
            NotUp: The stack is not up.
        """
        state = self.state
        if state is None:
            raise NotUp(f"there is no stack {self.name!r}")
        state.processes = [*(one for one in state.processes if one.name != process.name), process]
        state.save(self.folder)

    def log_of(self, name: str) -> Path:
        """Return the path of the log of one process."""
        return self._named(name)[1].log

    def _named(self, name: str) -> tuple[StackState, ProcessState]:
        state = self.state
        if state is None:
            raise NotUp(f"there is no stack {self.name!r}")
        process = state.process(name)
        if process is None:
            names = ", ".join(one.name for one in state.processes)
            raise NotUp(f"the stack {self.name!r} has no process {name!r}; it has {names}")
        return state, process

    def _start_servers(self, state: StackState, namespace: str) -> None:
        given_rabbitmq, given_redis = os.environ.get(RABBITMQ_URL), os.environ.get(REDIS_URL)
        access, servers = Access.fresh(deployment_users(namespace)), dict[str, str]()
        needed: tuple[install.Program, ...] = () if given_rabbitmq else (install.RABBITMQ, install.EPMD)
        needed += () if given_redis else (install.REDIS,)
        programs = install.ensure(needed, self._say)
        if given_redis:
            state.redis_url = given_redis
        else:
            server, redis = redis_server.process(self.folder, programs, access)
            servers[REDIS_URL], state.redis_url = server, access.url(server, access.of("operator"))
            self._start(state, redis)
        if given_rabbitmq:
            state.rabbitmq_url = given_rabbitmq
        else:
            server, made = rabbitmq.processes(self.folder, programs, access)
            servers[RABBITMQ_URL], state.rabbitmq_url = server, access.url(server, access.of("operator"))
            self._say("starting RabbitMQ and Redis")
            for process in made:
                self._start(state, process)
        if servers:
            state.own_settings = service_settings(servers, access)
        for process in state.processes:
            self._wait(state, process)
        self._check_servers(state)

    def _check_servers(self, state: StackState) -> None:
        if not rabbitmq.answers(state.rabbitmq_url):
            raise StartFailed(f"can't connect to the RabbitMQ in {RABBITMQ_URL}")
        if not redis_server.answers(state.redis_url):
            raise StartFailed(f"can't connect to the Redis in {REDIS_URL}")

    def _start_services(self, state: StackState, size: Size, port: int | None, settings: dict[str, str]) -> None:
        state.environment = {
            # A stack is for development and tests: own servers may be used as guest.
            **({ALLOW: "guest"} if os.environ.get(RABBITMQ_URL) else {}),
            **_inherited_settings(os.environ),
            RABBITMQ_URL: state.rabbitmq_url,
            REDIS_URL: state.redis_url,
            **_user_settings(state.rabbitmq_url),
            ID_KEYS: os.environ.get(ID_KEYS) or f"1:{token_hex(32)}",
            SEAL_KEYS: os.environ.get(SEAL_KEYS) or f"1:{token_hex(32)}",
            **_webhook_settings(),
            **({} if os.environ.get(RABBITMQ_URL) else {"MILEPOST_CONSUMER_TIMEOUT": str(rabbitmq.CONSUMER_TIMEOUT)}),
            "MILEPOST_BLOBS_URL": os.environ.get("MILEPOST_BLOBS_URL") or (self.folder / "blobs").as_uri(),
            **settings,
        }
        for own in state.own_settings.values():  # what the caller sets wins
            own |= {name: value for name, value in settings.items() if name in own}
        tracker, gateway, processor = (state.environment_of(name) for name in ("tracker", "gateway", "processor"))
        made = [services.background("tracker", n, self.folder, tracker) for n in range(1, size.trackers + 1)]
        for number in range(1, size.gateways + 1):
            chosen = self._gateway_port(port) if number == 1 else any_port()
            made.append(services.gateway(number, chosen, self.folder, gateway))
        made += [services.background("processor", n, self.folder, processor) for n in range(1, size.processors + 1)]
        if made:
            self._say(f"starting {', '.join(process.name for process in made)}")
        for process in made:
            self._start(state, process)
        state.url = next((process.url for process in made if process.name == "gateway-1"), None)
        state.save(self.folder)
        for process in made:
            self._wait(state, process)
        if state.url is not None and size.processors and size.trackers:
            url, last = state.url, made[-1]
            wanted = size.processors if not os.environ.get(RABBITMQ_URL) else 1
            processes.wait_ready(last, lambda: services.live_processors(url) >= wanted, services.READY_TIMEOUT)

    def _gateway_port(self, wanted: int | None) -> int:
        if wanted is None:
            chosen = free_port(DEFAULT_PORT)
            if chosen is None:
                self._say(f"port {DEFAULT_PORT} is taken: using a free one")
            return chosen or any_port()
        chosen = free_port(wanted) if wanted else any_port()
        if chosen is None:
            raise StartFailed(f"port {wanted} is taken: choose another --port, or 0 for a free one")
        return chosen

    def _start(self, state: StackState, process: ProcessState) -> None:
        processes.start(process)
        state.processes.append(process)
        state.save(self.folder)

    def _wait(self, state: StackState, process: ProcessState) -> None:
        if process.name == "redis":
            processes.wait_ready(process, lambda: redis_server.answers(state.redis_url), redis_server.READY_TIMEOUT)
        elif process.name == "rabbitmq":
            processes.wait_ready(process, lambda: rabbitmq.answers(state.rabbitmq_url), rabbitmq.READY_TIMEOUT)
        elif (ready_url := process.ready_url) is not None:
            processes.wait_ready(process, lambda: processes.answers(ready_url), services.READY_TIMEOUT)

    def _stop_all(self, state: StackState) -> None:
        state.stopping = True
        state.save(self.folder)
        for process in reversed(state.processes):
            waiting = f"waiting for {process.name} to stop"
            if not processes.stop(process, waiting=lambda waiting=waiting: self._say(waiting)):  # type: ignore[misc]
                self._say(f"{process.name} did not stop in time and was killed")
        for data in ("rabbitmq", "redis", "blobs"):
            shutil.rmtree(self.folder / data, ignore_errors=True)
        (self.folder / "state.json").unlink(missing_ok=True)


def service_settings(servers: Mapping[str, str], access: Access) -> dict[str, dict[str, str]]:
    """Return the settings of each service that name its own user: the URLs of servers, which are given by variable."""
    users = user_settings(access.users) if RABBITMQ_URL in servers else {}
    return {
        service: {**{name: access.url(url, access.of(service)) for name, url in servers.items()}, **users}
        for service in SERVICES
    }


def _user_settings(rabbitmq_url: str) -> dict[str, str]:
    """Return the settings that name the users of RabbitMQ, if all services have the one in this URL."""
    user = unquote(urlsplit(rabbitmq_url).username or "guest")
    names = [f"MILEPOST_{service.upper()}_USERS" for service in SERVICES]
    return {name: os.environ.get(name) or user for name in names}


def _webhook_settings() -> dict[str, str]:
    """Return settings that allow webhooks to receivers on this machine, unless the environment overrides them."""
    defaults = {
        "MILEPOST_WEBHOOK_KEYS": f"1:{token_hex(32)}",
        "MILEPOST_WEBHOOK_NETWORKS": "127.0.0.0/8,::1/128",
        "MILEPOST_WEBHOOK_PORTS": "80,443,1024-65535",
    }
    return {name: os.environ.get(name, value) for name, value in defaults.items()}


def _inherited_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the services' settings in the environment, with absolute paths: a restart uses the same.

    Raises:
        StackError: A secret is in a file.
    """
    settings = {
        name: value for name, value in environment.items() if processes.is_setting(name) and name not in CLIENT_SETTINGS
    }
    for name in settings:
        if name.endswith("_FILE") and name != "MILEPOST_ACCESS_FILE":
            raise StackError(f"{name} is for services that you start yourself: set {name.removesuffix('_FILE')}")
    if (access_file := settings.get("MILEPOST_ACCESS_FILE")) is not None:
        settings["MILEPOST_ACCESS_FILE"] = str(Path(access_file).absolute())
    return settings
