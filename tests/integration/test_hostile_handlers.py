"""What a handler does to its process: the other jobs run on, or the process ends at once, loudly, with a code ≠ 0."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import psutil
import pytest
from published import published
from samples import SUBMITTED
from trusted import ONE_USER_SETTINGS
from waiting import wait_until, wait_until_async

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import JobSubmitted, decode_event
from milepost_rabbit.declare import declare
from milepost_stack import processes, services

SUPPORT = Path(__file__).parent.parent / "support"


class Processor:
    """A processor in the namespace of the test, and the events of its jobs."""

    def __init__(self, state, channel, topology, events):
        self.process = processes.start(state)
        self.channel = channel
        self._state, self._topology, self._events = state, topology, events

    async def submit(self, type, **params):
        """Publish a job to the work queue; return its id."""
        job_id = token_hex(8)
        job = SUBMITTED.model_copy(
            update={"id": job_id, "type": type, "params": params, "files": (), "created_at": now()}
        )
        submitted = JobSubmitted(job=job)
        exchange = await self.channel.get_exchange(self._topology.submitted.name, ensure=False)
        await exchange.publish(published(submitted), submitted.routing_key)
        return job_id

    async def result(self, type, **params):
        """Run a job to its end; return its status and result."""
        job_id = await self.submit(type, **params)

        def ended():
            return next((one for one in self._events if one.job.id == job_id and one.status.terminal), None)

        event = await asyncio.to_thread(wait_until, ended, within=20, what=f"{job_id} has ended\n{self.tail()}")
        return str(event.status), event.job.result

    async def exit_code(self, within=15):
        """Wait until the process has ended; return its code."""
        return await asyncio.to_thread(self.process.wait, within)

    def tail(self):
        return processes.tail(self._state.log, 30)

    def answers(self, probe):
        assert processes.find(self._state), self.tail()
        return processes.answers(f"{self._state.url}/{probe}")


@pytest.fixture
async def processor(namespace, topology, rabbitmq_url, redis_url, connection, tmp_path):
    """A processor with the hostile handlers, that is ready."""
    settings = {
        "PYTHONPATH": str(SUPPORT),
        "MILEPOST_HANDLERS": "hostile_jobs",
        "MILEPOST_RABBITMQ_URL": rabbitmq_url,
        "MILEPOST_REDIS_URL": redis_url,
        "MILEPOST_NAMESPACE": namespace,
        **ONE_USER_SETTINGS,
        "MILEPOST_BLOBS_URL": tmp_path.as_uri(),
        "MILEPOST_CLAIM_PATIENCE": "0",
        "MILEPOST_DRAIN_TIMEOUT": "1",
        "MILEPOST_CANCEL_GRACE": "0.5",
        "MILEPOST_CONSUMER_TIMEOUT": "3600",
        "MILEPOST_THREADS": "2",
    }
    await declare(connection, topology.exchanges, (*topology.shared_queues, *topology.work_queues(["default"])))
    channel, events = await connection.channel(), []
    made = Processor(services.background("processor", 1, tmp_path, settings), channel, topology, events)
    try:
        await asyncio.to_thread(wait_until, lambda: made.answers("readyz"), within=30, what="it is ready")
        heard = await channel.declare_queue(exclusive=True)
        await heard.bind(topology.jobs.name, "job.#")

        async def note(message):
            events.append(decode_event(message.body))

        await heard.consume(note, no_ack=True)
        yield made
    finally:
        with suppress(ProcessLookupError):
            os.killpg(made.process.pid, signal.SIGKILL)
        made.process.wait()


HARMLESS = [
    "close-streams",
    "no-streams",
    "logging",
    "warnings",
    "hooks",
    "recursion",
    "default-time-out",
    "environment",
    "sleepless",
    "forked-return",
    "forked-exit",
]


async def test_a_handler_that_changes_what_all_share_harms_no_other_job(processor):
    """Neither do its forked children, which leave the handler as it does. At last, the process stops in good order."""
    for how in HARMLESS:
        assert ("succeeded", "hurt") == await processor.result("hurt", how=how), how
        assert ("succeeded", "well") == await processor.result("well"), how
        assert ("succeeded", "well") == await processor.result("well-async"), how
        assert await asyncio.to_thread(processor.answers, "readyz"), how
    assert await asyncio.to_thread(processor.answers, "livez")
    processor.process.terminate()
    assert 0 == await processor.exit_code()
    assert "processor_stopped" in processor.tail()


async def test_a_handler_that_stops_the_event_loop_ends_the_process_as_a_crash(processor, topology):
    """At once, with a reason in the log; its job is back in the queue, and the broker has counted the delivery."""
    job_id = await processor.submit("stops-loop")
    assert 1 == await processor.exit_code()
    assert "the event loop of the async handlers has ended" in processor.tail()
    queue = await processor.channel.get_queue(topology.work_queue_name("default"))

    async def redelivered():
        return await queue.get(fail=False, no_ack=True)

    message = await wait_until_async(redelivered, within=10, what="it is delivered again")
    assert (job_id, 1) == (decode_event(message.body).job.id, message.headers["x-delivery-count"])


async def test_what_handlers_leave_behind_ends_with_the_process(processor):
    """Threads that are no daemons, and children of `multiprocessing`, whatever the handler did with them."""
    assert ("succeeded", "hurt") == await processor.result("hurt", how="children")
    children = psutil.Process(processor.process.pid).children()
    assert 2 == len(children)
    processor.process.terminate()
    assert 0 == await processor.exit_code()
    assert "exit_forced" in processor.tail()
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
