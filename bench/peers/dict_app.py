"""A dict in the web process, and a thread pool. All jobs are lost when the process ends."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from pydantic import BaseModel

jobs: dict[str, dict[str, Any]] = {}
pool = ThreadPoolExecutor(8)


def noop(job: dict[str, Any]) -> None:
    pass


def pause(job: dict[str, Any], seconds: float) -> None:
    time.sleep(seconds)


def chatter(job: dict[str, Any], seconds: float) -> int:
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        done += 1
        job["progress"] = {"done": done, "message": ""}
    return done


def stamped(job: dict[str, Any], steps: int, interval: float) -> None:
    for done in range(1, steps + 1):
        time.sleep(interval)
        job["progress"] = {"done": done, "message": repr(time.time())}


TYPES = {"noop": noop, "pause": pause, "chatter": chatter, "stamped": stamped}


class Submission(BaseModel):
    type: str
    params: dict[str, Any] = {}


api = FastAPI()


def run(job: dict[str, Any], submission: Submission) -> None:
    job["status"] = "running"
    job["result"] = TYPES[submission.type](job, **submission.params)
    job["status"] = "succeeded"


@api.post("/jobs", status_code=202)
async def submit(submission: Submission) -> dict[str, Any]:
    job = {"id": uuid4().hex, "status": "queued", "progress": None, "result": None}
    jobs[job["id"]] = job
    pool.submit(run, job, submission)
    return {"id": job["id"]}


@api.get("/jobs/{job_id}")
async def status(job_id: str) -> dict[str, Any]:
    return jobs.get(job_id) or {"id": job_id, "status": "unknown"}
