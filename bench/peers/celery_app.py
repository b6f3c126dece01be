"""FastAPI and Celery on RabbitMQ, results in Redis: in its usual form; `SAFE=1` acknowledges late."""

import os
import time
from typing import Any

from celery import Celery, Task
from celery.result import AsyncResult
from fastapi import FastAPI
from pydantic import BaseModel

app = Celery("bench", broker=os.environ["BROKER"], backend=os.environ["RESULTS"])
app.conf.update(task_track_started=True, broker_connection_retry_on_startup=True)
if os.environ.get("SAFE"):
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_transport_options={"confirm_publish": True},
    )


@app.task(name="noop")
def noop() -> None:
    pass


@app.task(name="pause")
def pause(seconds: float) -> None:
    time.sleep(seconds)


@app.task(name="chatter", bind=True)
def chatter(self: Task, seconds: float) -> int:
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        done += 1
        self.update_state(state="PROGRESS", meta={"done": done, "message": ""})
    return done


@app.task(name="stamped", bind=True)
def stamped(self: Task, steps: int, interval: float) -> None:
    for done in range(1, steps + 1):
        time.sleep(interval)
        self.update_state(state="PROGRESS", meta={"done": done, "message": repr(time.time())})


class Submission(BaseModel):
    type: str
    params: dict[str, Any] = {}


api = FastAPI()


@api.post("/jobs", status_code=202)
def submit(submission: Submission) -> dict[str, Any]:
    return {"id": app.tasks[submission.type].delay(**submission.params).id}


@api.get("/jobs/{job_id}")
def status(job_id: str) -> dict[str, Any]:
    found = AsyncResult(job_id, app=app)
    state = found.state
    return {
        "id": job_id,
        "status": "succeeded" if state == "SUCCESS" else state.lower(),
        "progress": found.info if state == "PROGRESS" else None,
        "result": found.result if state == "SUCCESS" else None,
    }
