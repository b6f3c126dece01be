"""FastAPI and arq on Redis, as its documentation describes; progress in a separate hash, because arq has none."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job, JobStatus
from fastapi import FastAPI, Request
from pydantic import BaseModel

SETTINGS = RedisSettings.from_dsn(os.environ["RESULTS"])


async def noop(ctx: dict[str, Any]) -> None:
    pass


async def pause(ctx: dict[str, Any], seconds: float) -> None:
    await asyncio.sleep(seconds)


async def chatter(ctx: dict[str, Any], seconds: float) -> int:
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        done += 1
        await ctx["redis"].hset(f"progress:{ctx['job_id']}", mapping={"done": done, "message": ""})
    return done


async def stamped(ctx: dict[str, Any], steps: int, interval: float) -> None:
    for done in range(1, steps + 1):
        await asyncio.sleep(interval)
        await ctx["redis"].hset(f"progress:{ctx['job_id']}", mapping={"done": done, "message": repr(time.time())})


class WorkerSettings:
    functions = [noop, pause, chatter, stamped]  # noqa: RUF012 - what arq reads
    redis_settings = SETTINGS
    max_jobs = 8


class Submission(BaseModel):
    type: str
    params: dict[str, Any] = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.redis = await create_pool(SETTINGS)
    yield
    await app.state.redis.aclose()


api = FastAPI(lifespan=lifespan)


@api.post("/jobs", status_code=202)
async def submit(submission: Submission, request: Request) -> dict[str, Any]:
    job = await request.app.state.redis.enqueue_job(submission.type, **submission.params)
    return {"id": job.job_id}


@api.get("/jobs/{job_id}")
async def status(job_id: str, request: Request) -> dict[str, Any]:
    redis = request.app.state.redis
    job = Job(job_id, redis)
    if await job.status() is JobStatus.complete:
        info = await job.result_info()
        done = info is not None and info.success
        return {"id": job_id, "status": "succeeded" if done else "failed", "result": info and info.result}
    progress = await redis.hgetall(f"progress:{job_id}")
    return {"id": job_id, "status": "pending", "progress": progress or None, "result": None}
