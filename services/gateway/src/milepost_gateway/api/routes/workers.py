"""`/v1/job-types`, `/v1/queues` and `/v1/processors`: what can be submitted, and which workers run it."""

from collections import Counter
from collections.abc import Sequence

from fastapi import APIRouter, Request

from milepost_contracts.messages.worker_events import Heartbeat, JobType, QueueInfo
from milepost_contracts.values import Value
from milepost_gateway.api.authentication import MAY_READ, tenant
from milepost_gateway.api.dependencies import dependencies
from milepost_gateway.api.responses import problems
from milepost_rabbit.depth import Depth

router = APIRouter(prefix="/v1", tags=["workers"], dependencies=[MAY_READ])


class JobTypeInfo(JobType):
    live_processors: int
    """Number of live processors that serve this type."""


class JobTypes(Value):
    items: list[JobTypeInfo]


class Processors(Value):
    items: list[Heartbeat]


@router.get("/job-types", summary="List job types", responses=problems(503))
async def list_job_types(request: Request) -> JobTypes:
    """Answer every announced job type with its schemas, its queue and the number of live processors that serve it."""
    job_types = dependencies(request).job_types
    alive: Counter[str] = Counter()
    for heartbeat in await job_types.processors():
        alive.update(heartbeat.types)
    return JobTypes(
        items=[JobTypeInfo(**known.model_dump(), live_processors=alive[known.type]) for known in await job_types.all()]
    )


class Queues(Value):
    items: list[QueueInfo]


@router.get("/queues", summary="List the queues", responses=problems(503))
async def list_queues(request: Request) -> Queues:
    """Answer the depth of each queue that a job type or a processor names, and the number of its processors."""
    deps = dependencies(request)
    heartbeats = await deps.job_types.processors()
    names = sorted(
        {known.queue for known in await deps.job_types.all()} | {name for one in heartbeats for name in one.queues}
    )
    depths = await deps.broker.depths(names)
    return Queues(
        items=[_queue_info(name, depths[name], [one for one in heartbeats if name in one.queues]) for name in depths]
    )


def _queue_info(name: str, depth: Depth, serving: Sequence[Heartbeat]) -> QueueInfo:
    threads = sum(one.threads for one in serving)
    return QueueInfo(
        name=name, ready=depth.ready, consumers=depth.consumers, live_processors=len(serving), threads=threads
    )


@router.get("/processors", summary="List live processors", responses=problems(503))
async def list_processors(request: Request) -> Processors:
    """Answer each processor's latest heartbeat: its queues, threads and running jobs (only those of the tenant)."""
    deps = dependencies(request)

    def with_own(heartbeat: Heartbeat) -> Heartbeat:
        own = tuple(one for one in heartbeat.running if deps.statuses.owns(tenant(request), one.id))
        return heartbeat.model_copy(update={"running": own})

    return Processors(items=[with_own(heartbeat) for heartbeat in await deps.job_types.processors()])
