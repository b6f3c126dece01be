"""The processor's settings: `MILEPOST_…` in the environment."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from milepost_contracts.topology import DELIVERY_LIMIT, MOST_DELIVERIES
from milepost_service.settings import BlobsUrl, Length, ServiceSettings

Names = Annotated[tuple[str, ...], NoDecode]


class ProcessorSettings(ServiceSettings):
    #: Modules with handlers, separated by commas. Empty: every installed package with an entry point
    #: in the group `milepost.handlers`.
    handlers: Names = ()
    #: Serve only these queues, separated by commas. Empty: every queue that a handler names.
    queues: Names = ()
    #: How many handlers run at once.
    threads: int = Field(default_factory=lambda: max(4, os.cpu_count() or 1), ge=1, le=1_000)
    #: How long a handler that was canceled, timed out or interrupted may take to stop before it is made to.
    cancel_grace: Length = Field(default=timedelta(seconds=10), ge=timedelta(0), le=timedelta(hours=1))
    #: How often a job whose worker died is delivered again before it goes to quarantine. The same for every processor.
    delivery_limit: int = Field(default=DELIVERY_LIMIT, ge=1, le=MOST_DELIVERIES - 2)
    #: RabbitMQ's `consumer_timeout`, as its operator set it: before RabbitMQ 3.12 nobody else can tell.
    consumer_timeout: Length = Field(default=timedelta(minutes=30), ge=timedelta(seconds=1))
    #: Between signs of life to RabbitMQ. A handler may hold the interpreter for up to twice as long; what a frozen
    #: process holds is taken back after as long. (A process that ends is noticed at once.)
    heartbeat: Length = Field(default=timedelta(minutes=5), ge=timedelta(seconds=5), le=timedelta(hours=1))
    #: How long running jobs may go on after SIGTERM before they are interrupted.
    drain_timeout: Length = Field(default=timedelta(seconds=30), ge=timedelta(0), le=timedelta(hours=24))
    #: How long a job waits for Redis to answer who may run it, before it runs without that answer.
    gate_patience: Length = Field(default=timedelta(seconds=30), ge=timedelta(0), le=timedelta(minutes=20))
    #: Where the files of jobs are: a URL that gateway and processors can both reach.
    blobs_url: BlobsUrl = Field(default_factory=lambda: Path(".milepost/blobs").resolve().as_uri())
    #: Where `/livez`, `/readyz` and `/metrics` are served.
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=8802, ge=0, le=65_535)

    @field_validator("handlers", "queues", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value
