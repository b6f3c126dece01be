"""FastAPI and TaskIQ on RabbitMQ (aio-pika), results in Redis, as its documentation describes."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel
from taskiq import TaskiqDepends
from taskiq.depends.progress_tracker import ProgressTracker
from taskiq_aio_pika import AioPikaBroker
from taskiq_redis import RedisAsyncResultBackend

results: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(os.environ["RESULTS"])
broker = AioPikaBroker(os.environ["BROKER"]).with_result_backend(results)
Progress = Annotated[ProgressTracker[Any], TaskiqDepends()]


@broker.task(task_name="noop")
async def noop() -> None:
    pass


@broker.task(task_name="pause")
async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


@broker.task(task_name="chatter")
async def chatter(seconds: float, progress: Progress) -> int:
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        done += 1
        await progress.set_progress("PROGRESS", {"done": done, "message": ""})
    return done


@broker.task(task_name="stamped")
async def stamped(steps: int, interval: float, progress: Progress) -> None:
    for done in range(1, steps + 1):
        await asyncio.sleep(interval)
        await progress.set_progress("PROGRESS", {"done": done, "message": repr(time.time())})


class Submission(BaseModel):
    type: str
    params: dict[str, Any] = {}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await broker.startup()
    yield
    await broker.shutdown()


api = FastAPI(lifespan=lifespan)


@api.post("/jobs", status_code=202)
async def submit(submission: Submission) -> dict[str, Any]:
    task = broker.find_task(submission.type)
    assert task is not None
    return {"id": (await task.kiq(**submission.params)).task_id}


@api.get("/jobs/{job_id}")
async def status(job_id: str) -> dict[str, Any]:
    if await results.is_result_ready(job_id):
        result = await results.get_result(job_id)
        return {"id": job_id, "status": "failed" if result.is_err else "succeeded", "result": result.return_value}
    progress = await results.get_progress(job_id)
    return {"id": job_id, "status": "pending", "progress": progress and progress.meta, "result": None}
