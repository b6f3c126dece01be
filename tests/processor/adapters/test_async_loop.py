"""The event loop of the async handlers can be watched from another thread while a handler blocks it."""

import asyncio
import threading

import pytest
import structlog
from waiting import wait_until

from milepost_processor.adapters.async_loop import HandlerLoop


@pytest.fixture
def loop():
    made = HandlerLoop()
    made.start()
    yield made
    if made.is_alive:
        made._loop.call_soon_threadsafe(made._loop.stop)
    made._thread.join(5)
    made._loop.close()


def test_a_task_that_a_handler_makes_is_known_by_its_job(loop):
    """Whichever task of a job blocks the loop: the job and the line of code are known."""
    go = threading.Event()

    async def blocks():
        go.wait(10)

    async def handler():
        await asyncio.create_task(blocks())

    with structlog.contextvars.bound_contextvars(job_id="j1"):
        done = loop.run(handler())
    wait_until(lambda: loop.current_job() == "j1", within=5, what="the job is known")
    beats = loop.beats
    assert "blocks" in loop.where()
    assert "test_async_loop.py" in loop.where()
    assert beats == loop.beats
    go.set()
    done.result(5)
    wait_until(lambda: loop.beats > beats, within=5, what="it beats again")
    assert loop.current_job() is None


def test_a_loop_that_a_handler_stops_is_not_alive(loop):
    """The process can't run async handlers any more."""

    async def stops():
        asyncio.get_running_loop().stop()

    assert loop.is_alive
    loop.run(stops())
    wait_until(lambda: not loop.is_alive, within=5, what="it has ended")


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_a_task_that_ends_the_process_does_not_end_the_loop(loop, error):
    """They come out of the loop, with the tasks of all other handlers in it."""

    async def end():
        raise error

    async def handler():
        task = asyncio.create_task(end())
        await asyncio.wait([task])
        return type(task.exception())

    assert type(error) is loop.run(handler()).result(5)
    assert loop.is_alive


def test_a_handler_can_not_shut_down_the_threads_of_all(loop):
    """`asyncio.to_thread` of every other job would fail."""

    async def handler():
        await asyncio.get_running_loop().shutdown_default_executor()

    with pytest.raises(RuntimeError, match="other jobs share"):
        loop.run(handler()).result(5)

    async def other():
        return await asyncio.to_thread(str, 1)

    assert "1" == loop.run(other()).result(5)
