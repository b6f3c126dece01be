"""FastAPI and plain Dramatiq on RabbitMQ, with publisher confirms; a hash in Redis for each job."""

import json
import os
import time
from typing import Any

import dramatiq
import redis
import redis.asyncio
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.middleware import CurrentMessage, Middleware
from fastapi import FastAPI
from pydantic import BaseModel

RESULT_TTL = 7 * 86_400
results = redis.Redis.from_url(os.environ["RESULTS"])


def save(job_id: str, **fields: Any) -> None:
    with results.pipeline(transaction=False) as pipe:
        pipe.hset(f"job:{job_id}", mapping={name: json.dumps(value) for name, value in fields.items()})
        pipe.expire(f"job:{job_id}", RESULT_TTL)
        pipe.execute()


class SaveStatus(Middleware):
    """Saves the status of each job."""

    def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
        save(message.message_id, status="queued")

    def before_process_message(self, broker: Any, message: Any) -> None:
        save(message.message_id, status="running")

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        save(message.message_id, status="failed" if exception else "succeeded", result=result)


broker = RabbitmqBroker(url=os.environ["BROKER"], confirm_delivery=True)
broker.add_middleware(CurrentMessage())
broker.add_middleware(SaveStatus())
dramatiq.set_broker(broker)


def job_id() -> str:
    message = CurrentMessage.get_current_message()
    assert message is not None
    return message.message_id


@dramatiq.actor(actor_name="noop")
def noop() -> None:
    pass


@dramatiq.actor(actor_name="pause")
def pause(seconds: float) -> None:
    time.sleep(seconds)


@dramatiq.actor(actor_name="chatter")
def chatter(seconds: float) -> int:
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        done += 1
        results.hset(f"job:{job_id()}", "progress", json.dumps({"done": done, "message": ""}))
    return done


@dramatiq.actor(actor_name="stamped")
def stamped(steps: int, interval: float) -> None:
    for done in range(1, steps + 1):
        time.sleep(interval)
        results.hset(f"job:{job_id()}", "progress", json.dumps({"done": done, "message": repr(time.time())}))


class Submission(BaseModel):
    type: str
    params: dict[str, Any] = {}


api = FastAPI()
async_results = redis.asyncio.Redis.from_url(os.environ["RESULTS"])


@api.post("/jobs", status_code=202)
def submit(submission: Submission) -> dict[str, Any]:
    return {"id": broker.get_actor(submission.type).send(**submission.params).message_id}


@api.get("/jobs/{job_id}")
async def status(job_id: str) -> dict[str, Any]:
    found = await async_results.hmget(f"job:{job_id}", "status", "progress", "result")
    state, progress, result = (value and json.loads(value) for value in found)
    return {"id": job_id, "status": state or "unknown", "progress": progress, "result": result}
