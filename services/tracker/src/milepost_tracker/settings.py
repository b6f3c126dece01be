"""The tracker's settings: `MILEPOST_…` in the environment."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator

from milepost_contracts.messages.topology import LOG_MAX_BYTES
from milepost_service.callback_urls import CallbackSettings
from milepost_service.exemptions import Exemption, Risk
from milepost_service.id_keys import IdKeySettings
from milepost_service.senders import SenderSettings
from milepost_service.settings import Duration, QueueSettings


class TrackerSettings(IdKeySettings, SenderSettings, CallbackSettings, QueueSettings):
    live_for: Duration = Field(default=timedelta(days=200), ge=timedelta(seconds=1), le=timedelta(days=730))
    """How long a job that has not ended is kept after its last event."""
    batch_size: int = Field(default=200, ge=1, le=1_000)
    """Maximum events in one batch. An event in a quiet queue is written at once; a busy queue waits 20 ms for more."""
    prefetch: int = Field(default=1_000, ge=1, le=2_000)
    """How many unacknowledged events this tracker may hold; RabbitMQ caps it at 2000 on quorum queues."""
    log_max_bytes: int = Field(default=LOG_MAX_BYTES, ge=0)
    """How large the event log may become, in bytes: then RabbitMQ drops its oldest events, whatever the retention. 0
    means without a limit. It must be the same for every tracker."""
    health_host: str = "127.0.0.1"
    """Where `/livez`, `/readyz` and `/metrics` are served."""
    health_port: int = Field(default=8801, ge=0, le=65_535)

    def risks(self) -> Iterator[Risk]:
        yield from super().risks()
        if self.log_max_bytes == 0:
            yield Risk(
                Exemption.UNLIMITED_LOG,
                "MILEPOST_LOG_MAX_BYTES: a log without a limit fills the broker's disk: set a limit in bytes",
            )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.prefetch < self.batch_size:
            raise ValueError(
                f"MILEPOST_PREFETCH ({self.prefetch}) is smaller than MILEPOST_BATCH_SIZE ({self.batch_size}), "
                "so a batch could never fill up"
            )
        if self.live_for < self.retention:
            raise ValueError(
                f"MILEPOST_LIVE_FOR ({self.live_for}) is shorter than MILEPOST_RETENTION ({self.retention}), "
                "so a waiting job would be deleted before a finished one"
            )
        return self
