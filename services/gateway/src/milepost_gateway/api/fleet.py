"""`/v1/job-types` and `/v1/processors`: what can be submitted, and who is alive to run it."""

from collections import Counter
from collections.abc import Sequence

from fastapi import APIRouter, Request
from pydantic import BaseModel

from milepost_contracts.fleet import Beat, JobType, QueueInfo
from milepost_gateway.api.access import MAY_READ, tenant
from milepost_gateway.api.responses import problems
from milepost_gateway.api.services import services
from milepost_rabbit.depth import Depth

router = APIRouter(prefix="/v1", tags=["fleet"], dependencies=[MAY_READ])


class JobTypeInfo(JobType):
    #: How many processors that serve this type are alive.
    live_processors: int


class JobTypes(BaseModel):
    items: list[JobTypeInfo]


class Processors(BaseModel):
    items: list[Beat]


@router.get("/job-types", summary="List what can be submitted", responses=problems(503))
async def list_job_types(request: Request) -> JobTypes:
    """Answer every announced type with its schemas, its queue and how many live processors serve it."""
    catalogue = services(request).catalogue
    alive: Counter[str] = Counter()
    for beat in await catalogue.processors():
        alive.update(beat.types)
    return JobTypes(
        items=[JobTypeInfo(**known.model_dump(), live_processors=alive[known.type]) for known in await catalogue.all()]
    )


class Queues(BaseModel):
    items: list[QueueInfo]


@router.get("/queues", summary="List the queues", responses=problems(503))
async def list_queues(request: Request) -> Queues:
    """Answer how full each queue is that any type has, and who serves it."""
    parts = services(request)
    beats = await parts.catalogue.processors()
    names = sorted(
        {known.queue for known in await parts.catalogue.all()} | {name for one in beats for name in one.queues}
    )
    depths = await parts.broker.depths(names)
    return Queues(items=[_told(name, depths[name], [one for one in beats if name in one.queues]) for name in depths])


def _told(name: str, depth: Depth, serving: Sequence[Beat]) -> QueueInfo:
    threads = sum(one.threads for one in serving)
    return QueueInfo(
        name=name, ready=depth.ready, consumers=depth.consumers, live_processors=len(serving), threads=threads
    )


@router.get("/processors", summary="List the processors that are alive", responses=problems(503))
async def list_processors(request: Request) -> Processors:
    """Answer each processor's queues, threads and what it runs now, as it last said; of the jobs, one's own."""
    parts = services(request)

    def with_own(beat: Beat) -> Beat:
        own = tuple(one for one in beat.running if parts.statuses.owns(tenant(request), one.id))
        return beat.model_copy(update={"running": own})

    return Processors(items=[with_own(beat) for beat in await parts.catalogue.processors()])
