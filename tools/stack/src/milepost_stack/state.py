"""What is remembered of a stack between two commands: one file in its folder, readable by its owner alone."""

import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel

FILE = "state.json"


class ProcessState(BaseModel):
    """A process that the stack started, and how to start it again."""

    name: str
    command: list[str]
    #: Added to the environment.
    environment: dict[str, str]
    log: Path
    #: Where it runs, and leaves what it dumps; where we are, by default.
    folder: Path | None = None
    #: Where it answers HTTP, if it does.
    url: str | None = None
    #: What answers 200 once it is ready.
    ready_url: str | None = None
    #: 0 while it is being restarted.
    pid: int = 0
    #: With the pid this names the process: pids are used again.
    created: float = 0.0


class StackState(BaseModel):
    """One stack."""

    name: str
    url: str | None
    rabbitmq_url: str
    redis_url: str
    #: What its services are configured with.
    environment: dict[str, str] = {}
    #: Whether it is being taken down.
    stopping: bool = False
    #: In the order they were started.
    processes: list[ProcessState] = []

    def save(self, folder: Path) -> None:
        """Write the file at once or not at all."""
        fresh = folder / f".{FILE}.{os.getpid()}"
        fresh.touch(mode=0o600)
        fresh.write_text(self.model_dump_json(indent=2))
        fresh.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        try:
            return cls.model_validate_json((folder / FILE).read_text())
        except FileNotFoundError:
            return None

    def process(self, name: str) -> ProcessState | None:
        return next((process for process in self.processes if process.name == name), None)
