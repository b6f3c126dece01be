"""`/v1/job-types` and `/v1/processors`: what can be submitted, and who is alive to run it."""

from collections import Counter

from fastapi import APIRouter, Request
from pydantic import BaseModel

from milepost_contracts.fleet import Beat, JobType
from milepost_gateway.api.responses import problems
from milepost_gateway.api.services import services

router = APIRouter(prefix="/v1", tags=["fleet"])


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


@router.get("/processors", summary="List the processors that are alive", responses=problems(503))
async def list_processors(request: Request) -> Processors:
    """Answer each processor's queues, threads and what it runs now, as it last said."""
    return Processors(items=list(await services(request).catalogue.processors()))
