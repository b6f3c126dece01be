"""Decides how many messages each consumer may take: a processor holds no job that it can't start within a moment.

While all threads are busy with long jobs, nothing is consumed; a slot that becomes free is filled by fetching from the
queues in turn. While jobs are quick, the queues are consumed with a prefetch, because the next job starts at once.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from queue import Empty, PriorityQueue
from typing import Any

import structlog
from dramatiq.broker import MessageProxy
from pika.exceptions import AMQPError  # type: ignore[import-untyped]

from milepost_processor import metrics
from milepost_processor.adapters.dramatiq.consumer import OWNER, CommandConsumer

log = structlog.get_logger(__name__)

MOMENT = 0.5
"""Seconds within which a message that is held must be started; it is given back if it was not."""
TICK = 0.1
"""Seconds between two adjustments, if nothing happens."""
SETTLE_TIME = 0.02
"""Seconds after an adjustment until the next one: messages are on their way meanwhile."""
RATE_WINDOW = 1.0
"""Seconds over which ended jobs are counted."""
FETCH_TIMEOUT = 2.0
GIVE_BACK_TIMEOUT = 2.0
"""Seconds that a stopping processor waits until what it gives back is confirmed."""


class WorkQueue(PriorityQueue[Any]):
    """The messages that are held and not started; counts those that have ended."""

    def __init__(self, threads: int, changed: threading.Event) -> None:
        """Set `changed` when a thread has become free, or all threads have work."""
        super().__init__()
        self._threads = threads
        self._changed = changed
        #: The number of messages that were processed.
        self.ended = 0

    @property
    def waiting_for(self) -> float:
        """How long the oldest message has been held, in seconds."""
        with self.mutex:
            return (time.monotonic_ns() - self.queue[0]._queued_time) / 1e9 if self.queue else 0.0

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        if self.unfinished_tasks >= self._threads:
            self._changed.set()

    def task_done(self) -> None:
        super().task_done()
        self.ended += 1
        if self.unfinished_tasks < self._threads:
            self._changed.set()

    def take_back(self) -> list[MessageProxy]:
        """Remove and return the messages that are held."""
        taken = []
        with suppress(Empty):
            while True:
                taken.append(self.get_nowait().message)
                super().task_done()
        return taken


class FlowControl(threading.Thread):
    """Adjusts what the consumers take."""

    def __init__(
        self,
        work_queue: WorkQueue,
        *,
        threads: int,
        consumers: Callable[[], Sequence[CommandConsumer]],
        changed: threading.Event,
    ) -> None:
        """Prepare to adjust the consumers, at each tick and when `changed` is set."""
        super().__init__(name="flow control", daemon=True)
        self._work_queue = work_queue
        self._threads = threads
        self._consumers = consumers
        self._changed = changed
        self._ended: deque[tuple[float, int]] = deque()
        self._turn = itertools.count()
        self._ending = threading.Event()

    def stop(self) -> None:
        """Take no more messages, and return once those that are held are given back."""
        self._ending.set()
        self._changed.set()
        if self.is_alive():
            self.join()
        for consumer in self._consumers():
            consumer.subscribe(0)
        wait(self._give_back(), timeout=GIVE_BACK_TIMEOUT)

    def run(self) -> None:
        """Adjust until `stop` is called."""
        while not self._ending.is_set():
            self._changed.wait(TICK)
            self._changed.clear()
            with suppress(AMQPError):  # a connection was lost: its consumer is created again
                self.adjust()
            self._ending.wait(SETTLE_TIME)

    def adjust(self) -> None:
        """Give back what is held too long, and set what each consumer takes."""
        if self._work_queue.waiting_for > MOMENT:
            self._give_back()
        consumers = [one for one in self._consumers() if one.is_alive and one.is_idle]
        if (room := self.room()) <= 0:
            for consumer in consumers:
                if consumer.prefetch:
                    consumer.subscribe(0)
            return
        taking = [one for one in consumers if one.held < one.limit]
        # Quarantine queues are nearly always empty: they get no share of the room.
        if share := room // max(1, sum(not one.one_at_a_time for one in taking)):
            for consumer in taking:
                _resize(consumer, share)
        else:
            self._fetch([one for one in taking if not one.credit], room)

    def room(self) -> int:
        """Return how many more messages could be started within a moment."""
        consumers = self._consumers()
        taken = max(self._work_queue.unfinished_tasks, sum(one.held for one in consumers if one.is_alive))
        return self._threads + min(self._ending_soon(), self._threads * len(consumers)) - taken

    def _ending_soon(self) -> int:
        """Return how many jobs will end within a moment, at the rate of late; 0 unless jobs are quick.

        Long jobs that began together end together: their rate says little about the next moment.
        """
        ending = int(self._ended_lately() * MOMENT / RATE_WINDOW)
        return ending if ending > self._threads else 0

    def _ended_lately(self) -> int:
        at, ended = time.monotonic(), self._work_queue.ended
        self._ended.append((at, ended))
        while self._ended[0][0] < at - RATE_WINDOW:
            self._ended.popleft()
        return ended - self._ended[0][1]

    def _fetch(self, consumers: Sequence[CommandConsumer], room: int) -> None:
        """Fill the room from the queues in turn; a queue that is empty is listened to."""
        waiting = deque(consumers)
        if waiting:
            waiting.rotate(-(next(self._turn) % len(waiting)))
        while waiting and room > 0:
            consumer = waiting.popleft()
            try:
                fetched = consumer.fetch().result(FETCH_TIMEOUT)
            except (FutureTimeoutError, AssertionError):
                return  # the broker does not answer
            if not fetched:
                consumer.subscribe(1)
                continue
            room -= 1
            if consumer.held < consumer.limit:
                waiting.append(consumer)

    def _give_back(self) -> list[Future[None]]:
        messages = self._work_queue.take_back()
        if messages:
            metrics.given_back.inc(len(messages))
            log.info("messages_given_back", count=len(messages))
        return [getattr(message, OWNER).give_back(message) for message in messages]


def _resize(consumer: CommandConsumer, share: int) -> None:
    """Let the consumer take about `share` further messages; small differences are not worth a new subscription."""
    share = min(share, consumer.limit)
    if not consumer.credit or share >= 2 * consumer.prefetch or consumer.credit > 2 * share:
        consumer.subscribe(share)
