"""The tracker's settings: `MILEPOST_…` in the environment."""

from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator

from milepost_service.callbacks import CallbackSettings
from milepost_service.settings import Length


class TrackerSettings(CallbackSettings):
    #: The longest time that a job which has not ended is remembered after its last event.
    live_for: Length = Field(default=timedelta(days=200), ge=timedelta(seconds=1), le=timedelta(days=730))
    #: The most events in one batch. An event that comes alone is written at once; many wait 20 ms for one another.
    batch_size: int = Field(default=200, ge=1, le=1_000)
    #: How many events may be on their way to this tracker; RabbitMQ caps it at 2000 on quorum queues.
    prefetch: int = Field(default=1_000, ge=1, le=2_000)
    #: Where `/livez`, `/readyz` and `/metrics` are served.
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=8801, ge=0, le=65_535)

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
                "so a waiting job would be forgotten before a finished one"
            )
        return self
