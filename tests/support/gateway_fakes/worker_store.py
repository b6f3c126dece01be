"""Announced job types and live processors in memory."""

from datetime import datetime

from samples import AT, HEARTBEAT

from milepost_contracts.messages.worker_events import Heartbeat, JobType

TYPES = (
    JobType(
        type="count",
        queue="default",
        title="Count",
        params_schema={
            "type": "object",
            "properties": {"steps": {"type": "integer", "minimum": 0}, "a/b": {"type": "string"}},
            "additionalProperties": False,
        },
        result_schema={},
    ),
    JobType(type="crunch", queue="cpu", title="Crunch", params_schema={"type": "object"}, result_schema={}),
)


class FakeWorkerStore:
    def __init__(self, view):
        self._view = view
        self.types = list(TYPES)
        self.heartbeats: list[Heartbeat] = [HEARTBEAT]
        self.since: datetime | None = AT

    async def job_types(self):
        self._view.check()
        return self.types

    async def types_since(self):
        self._view.check()
        return self.since

    async def processors(self):
        self._view.check()
        return self.heartbeats
