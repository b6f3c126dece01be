"""The processor's settings: `MILEPOST_…` in the environment."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from milepost_service.lists import split_words
from milepost_service.sealing import SealKeys
from milepost_service.senders import SenderSettings
from milepost_service.settings import BlobsUrl, Duration, QueueSettings

Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_words)]


class ProcessorSettings(SenderSettings, QueueSettings):
    handlers: Names = ()
    """Modules with handlers, separated by commas. Empty: every installed package with an entry point in the group
    `milepost.handlers`."""
    queues: Names = ()
    """Serve only these queues, separated by commas. Empty: every queue that a handler names."""
    seal_keys: SealKeys = SecretStr("")
    """The keys that open secret params, `NUMBER:HEX[,NUMBER:HEX…]`. The same for every gateway and processor."""
    threads: int = Field(default_factory=lambda: max(4, os.cpu_count() or 1), ge=1, le=1_000)
    """How many handlers run at once."""
    cancel_grace: Duration = Field(default=timedelta(seconds=10), ge=timedelta(0), le=timedelta(hours=1))
    """How long a handler that was canceled, timed out or interrupted may take to stop before it is forced to."""
    consumer_timeout: Duration = Field(default=timedelta(minutes=30), ge=timedelta(seconds=1))
    """RabbitMQ's `consumer_timeout`, as set at the broker: clients can't read it."""
    heartbeat: Duration = Field(default=timedelta(minutes=5), ge=timedelta(seconds=5), le=timedelta(hours=1))
    """The AMQP heartbeat. A handler may hold the interpreter for up to twice as long; deliveries to a frozen process
    are redelivered after as long. (RabbitMQ notices at once when a process ends.)"""
    drain_timeout: Duration = Field(default=timedelta(seconds=10), ge=timedelta(0), le=timedelta(hours=24))
    """How long running jobs may go on after SIGTERM before they are interrupted. The process ends within this time,
    `cancel_grace` and 9 s: before Kubernetes kills it, which it does after 30 s."""
    claim_patience: Duration = Field(default=timedelta(seconds=30), ge=timedelta(0), le=timedelta(minutes=20))
    """How long a claim is repeated while Redis does not answer, before the job runs without one."""
    blobs_url: BlobsUrl = Field(default_factory=lambda: Path(".milepost/blobs").resolve().as_uri())
    """Where the files of jobs are: a URL that gateway and processors can both reach."""
    health_host: str = "127.0.0.1"
    """Where `/livez`, `/readyz` and `/metrics` are served."""
    health_port: int = Field(default=8802, ge=0, le=65_535)
