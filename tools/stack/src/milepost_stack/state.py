"""The state of a stack between two commands: one file in its folder, readable only by its owner."""

import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel

FILE = "state.json"


class ProcessState(BaseModel):
    """A process of the stack, and how to start it."""

    name: str
    command: list[str]
    #: Added to the environment.
    environment: dict[str, str]
    log: Path
    #: Its working directory; by default ours.
    folder: Path | None = None
    #: Its HTTP address, if it has one.
    url: str | None = None
    #: Answers 200 once it is ready.
    ready_url: str | None = None
    #: 0 while it is being restarted.
    pid: int = 0
    #: Its start time: with the pid it identifies the process, because pids are reused.
    created: float = 0.0


class StackState(BaseModel):
    """The state of one stack."""

    name: str
    url: str | None
    #: With the user of an operator, if the stack has started the servers.
    rabbitmq_url: str
    redis_url: str
    #: The settings of all its services.
    environment: dict[str, str] = {}
    #: Those of each service beside them: the URLs of the servers with its own user.
    own_settings: dict[str, dict[str, str]] = {}
    #: Whether it is being stopped.
    stopping: bool = False
    #: In the order they were started.
    processes: list[ProcessState] = []

    def save(self, folder: Path) -> None:
        """Write the file atomically."""
        fresh = folder / f".{FILE}.{os.getpid()}"
        fresh.touch(mode=0o600)
        fresh.write_text(self.model_dump_json(indent=2))
        fresh.replace(folder / FILE)

    def environment_of(self, service: str) -> dict[str, str]:
        """Return the settings of a service: `gateway`, `tracker` or `processor`."""
        return {**self.environment, **self.own_settings.get(service, {})}

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        try:
            return cls.model_validate_json((folder / FILE).read_text())
        except FileNotFoundError:
            return None

    def process(self, name: str) -> ProcessState | None:
        return next((process for process in self.processes if process.name == name), None)
