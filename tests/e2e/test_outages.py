"""Outages of a stack's parts: the clients get an answer in time, and no job is lost."""

import asyncio
import signal
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import aio_pika
import httpx
import pytest
from broker_control import evaluate, rabbitmqctl
from problem_answers import problem
from redis import Redis
from waiting import wait_until

from milepost_contracts.messages.topology import Topology
from milepost_stack import processes

ANSWER_TIMEOUT = 4.5
"""Seconds allowed for an answer that takes 2.1 s by design, on a busy machine."""
JOB = {"type": "noop", "params": {}}


@pytest.fixture(scope="module")
def stack(start_stack):
    """A stack of this module's own; it runs beside the session's."""
    made = start_stack("outages", gateways=1, processors=1, trackers=1)
    yield made
    made.down()


@pytest.fixture(scope="module")
def http(stack):
    with httpx.Client(base_url=stack.state.url, timeout=10) as made:
        yield made


@pytest.fixture(autouse=True)
def recovered(http):
    """After every test, the stack accepts jobs again without a restart of any of its services."""
    yield
    wait_until(lambda: accepted(http), within=30, what="a job is accepted again")


def accepted(http):
    return http.post("/v1/jobs", json=JOB).status_code == 202


def refused(http):
    """Submit, assert that it is refused in time, and return the response."""
    response = refusal(http)
    assert response is not None, "it was accepted"
    return response


def refusal(http):
    """Submit, and return the refusal, which must come in time; None if the job was accepted."""
    begun = time.monotonic()
    response = http.post("/v1/jobs", json=JOB)
    took = time.monotonic() - begun
    if response.status_code == httpx.codes.ACCEPTED:
        return None
    assert took < ANSWER_TIMEOUT, f"answered after {took:.2f} s"
    assert 503 == response.status_code
    assert "retry-after" in response.headers
    return response


@contextmanager
def frozen(stack, name):
    """SIGSTOP a process until the block ends."""
    process = processes.find(stack.state.process(name))
    process.send_signal(signal.SIGSTOP)
    states = [Path(f"/proc/{process.pid}/task/{thread.id}/stat") for thread in process.threads()]
    stopped = lambda: all(") T " in one.read_text() for one in states if one.exists())  # noqa: E731
    wait_until(stopped, within=10, what="all its threads have stopped")
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def away(stack, name):
    """End a process, and restart it when the block ends.

    RabbitMQ is stopped with SIGTERM: a quorum queue of one member may not survive kill -9 (three members do).
    """
    process = processes.find(stack.state.process(name))
    process.terminate() if name == "rabbitmq" else process.kill()
    wait_until(lambda: processes.find(stack.state.process(name)) is None, within=30, what=f"{name} has ended")
    try:
        yield
    finally:
        stack.restart(name)


def test_a_get_right_after_the_202_is_never_404(stack, http):
    """A thousand times, with the tracker stopped, so that no view has any of these jobs."""
    with away(stack, "tracker-1"):
        codes = []
        for _ in range(1000):
            location = http.post("/v1/jobs", json=JOB).headers["location"]
            codes.append(http.get(location).status_code)
    print(f"GET right after the 202, tracker stopped: {codes.count(200)} times 200, {codes.count(404)} times 404")
    assert codes == [200] * 1000


def test_jobs_accepted_without_a_tracker_have_their_status_once_it_is_back(stack, http, client):
    """They ran meanwhile; their events waited in the broker."""
    with away(stack, "tracker-1"):
        ids = [http.post("/v1/jobs", json=JOB).json()["id"] for _ in range(50)]
    assert {"succeeded"} == {client.job(job_id).wait(timeout=30).status for job_id in ids}


def test_a_frozen_broker_is_answered_with_outcome_unknown_in_time(stack, http, client):
    """The message may have been stored, so the problem has the job's id."""
    assert accepted(http)
    with frozen(stack, "rabbitmq"):
        answers = [refused(http) for _ in range(2)]
        assert 200 == http.get("/livez").status_code
    body = problem(answers[0], 503, "outcome-unknown")
    wait_until(lambda: accepted(http), within=30, what="a job is accepted again")
    assert "succeeded" == client.submit("noop", {}).wait(timeout=30).status
    assert client.job(body["job_id"]).document.status in ("queued", "running", "succeeded"), "it came, or it did not"


def test_a_stopped_broker_is_answered_with_not_accepted_in_time_and_loses_nothing(stack, http, client):
    """Jobs that were accepted before the stop succeed after the restart."""
    before = [client.submit("count", {"steps": 10, "delay": 0.2}) for _ in range(6)]
    with away(stack, "rabbitmq"):
        wait_until(
            lambda: refused(http).json()["type"].endswith("not-accepted"), within=10, what="the outage is detected"
        )
        response = http.get("/readyz")
        assert (503, "not ready: rabbitmq\n") == (response.status_code, response.text)
    assert {"succeeded"} == {handle.wait(timeout=60).status for handle in before}


def test_a_memory_alarm_of_the_broker_is_answered_with_not_accepted_in_time(stack, http):
    """The next request is refused as `not-accepted`."""
    assert accepted(http)
    rabbitmqctl(stack, "set_vm_memory_high_watermark", "0")
    try:
        refused(http)
        problem(refused(http), 503, "not-accepted")
    finally:
        rabbitmqctl(stack, "set_vm_memory_high_watermark", "0.4")


def test_repeated_alarms_of_the_broker_need_no_restart_of_a_service(stack, http):
    """Five alarms: each refuses jobs in time, and after each the same processes accept and finish jobs."""
    for _ in range(5):
        evaluate(stack, "rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []})")
        try:
            wait_until(lambda: refusal(http), within=5, what="the job is refused")
        finally:
            evaluate(stack, "rabbit_alarm:clear_alarm({resource_limit, memory, node()})")
        wait_until(lambda: accepted(http), within=10, what="a job is accepted again")
    assert [] == [process.name for process in stack.state.processes if processes.find(process) is None]


def test_a_job_whose_work_queue_is_gone_is_not_accepted(stack, http):
    """The message would still be routed to the tracker's queue, so the gateway checks for the work queue itself."""
    topology = Topology()
    assert accepted(http)

    async def delete():
        async with await aio_pika.connect(stack.state.rabbitmq_url) as connection:
            await (await connection.channel()).queue_delete(topology.work("default").name)

    with away(stack, "tracker-1"):  # it would declare the queue at once
        asyncio.run(delete())
        wait_until(lambda: not accepted(http), within=5, what="the missing queue is detected")
        assert "work.default" in problem(refused(http), 503, "not-accepted")["detail"]
    wait_until(lambda: accepted(http), within=30, what="the tracker has declared it")


def test_without_redis_jobs_are_accepted_and_only_their_status_is_unavailable(stack, http, client):
    """202 for a submission, 503 for a status request, never a 404; the status is available once Redis is back."""
    assert accepted(http)
    with away(stack, "redis"):
        ids = [http.post("/v1/jobs", json=JOB).json()["id"] for _ in range(10)]
        begun = time.monotonic()
        problem(http.get(f"/v1/jobs/{ids[0]}"), 503, "status-unavailable")
        assert time.monotonic() - begun < ANSWER_TIMEOUT
        problem(http.get("/v1/jobs/unknown"), 404, "unknown-job")
        assert "redis" in http.get("/readyz").text
    # A restarted server is trusted once the trackers have checked what it has.
    wait_until(
        lambda: http.get(f"/v1/jobs/{ids[0]}").status_code == 200, within=30, what="the status is available again"
    )
    assert {"succeeded"} == {client.job(job_id).wait(timeout=60).status for job_id in ids}


def test_unreadable_messages_are_dead_lettered_and_processing_goes_on(stack, http, client):
    """Invalid messages, at the processor and the tracker: they are counted and kept, and the next job runs."""
    topology = Topology()

    async def depth(channel):
        declared = await channel.declare_queue(topology.poison_queue.name, passive=True)
        return declared.declaration_result.message_count

    async def inject():
        async with await aio_pika.connect(stack.state.rabbitmq_url) as connection:
            channel = await connection.channel()
            before = await depth(channel)
            exchange = await channel.get_exchange(topology.jobs.name, ensure=False)
            for body in (b"garbage", b"{}", b'{"options":5,"actor_name":["x"],"queue_name":"default"}', b"\xff" * 1000):
                await exchange.publish(aio_pika.Message(body), "job.submitted.default.count")
            return before

    async def added_since(before):
        async with await aio_pika.connect(stack.state.rabbitmq_url) as connection:
            return await depth(await connection.channel()) - before

    before = asyncio.run(inject())
    # Each of the four is in two queues: the processor dead-letters one copy, the tracker the other.
    wait_until(lambda: asyncio.run(added_since(before)) == 8, within=15, what="all eight are kept")

    def unreadable():
        return http.get("/v1/dead-letters").json()["unreadable"]

    listed = wait_until(lambda: len(found := unreadable()) == 8 and found, within=10, what="all eight are listed")
    assert {topology.work("default").name, topology.lifecycle.name} == {one["queue"] for one in listed}
    assert "succeeded" == client.submit("count", {"steps": 1, "delay": 0}).wait(timeout=30).status
    counted = {
        name: httpx.get(stack.state.process(name).url + "/metrics").text for name in ("processor-1", "tracker-1")
    }
    assert (
        'milepost_processor_messages_dead_lettered_total{queue="milepost.work.default"} 4.0' in counted["processor-1"]
    )
    assert (
        'milepost_tracker_messages_dead_lettered_total{queue="milepost.tracker.lifecycle"} 4.0' in counted["tracker-1"]
    )


def test_a_canceled_job_stays_canceled_after_a_flush_of_redis(stack, http):
    """No claim is granted on an incomplete shard: processors wait until the log was replayed."""
    job = {"type": "noop", "params": {}, "delay": 4}
    ids = [http.post("/v1/jobs", json=job).json()["id"] for _ in range(5)]

    def get(job_id):
        return http.get(f"/v1/jobs/{job_id}").json()

    def canceled(job_id):
        return get(job_id)["status"] == "canceled" or (http.post(f"/v1/jobs/{job_id}/cancel") and False)

    wait_until(lambda: {canceled(job_id) for job_id in ids} == {True}, within=3, what="all are canceled")
    documents = [get(job_id) for job_id in ids]
    with Redis.from_url(stack.state.redis_url) as redis:
        due = max(datetime.fromisoformat(one["run_at"]) for one in documents)
        wait_until(lambda: (due - datetime.now(UTC)).total_seconds() < 0.5, within=5, what="they are due soon")
        redis.flushall()
    wait_until(
        lambda: http.get(f"/v1/jobs/{ids[0]}").status_code == 200, within=30, what="the status is available again"
    )
    wait_until(lambda: accepted(http), within=30, what="jobs run again")
    assert {"canceled"} == {get(job_id)["status"] for job_id in ids}
