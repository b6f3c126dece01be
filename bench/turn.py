"""One system's turn: its processes, and each measurement in order."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import load
import psutil
import redis
from systems import ROOT, System, environment

READY_WITHIN = 60.0
ENDS_WITHIN = 120.0
SECONDS = 4.0
STUCK_AFTER = 60.0
LOGS = ROOT / ".milepost" / "bench"

Figures = dict[str, float]


class Running:
    """A system's processes."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._made: dict[str, psutil.Popen] = {}

    def start(self, name: str) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        log = LOGS / f"{self.system.name.replace(', ', '-').replace(' ', '-')}.{name}.log"
        with log.open("ab") as out:
            self._made[name] = psutil.Popen(
                self.system.commands[name],
                env=environment(self.system),
                cwd=LOGS,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def process(self, name: str) -> psutil.Popen:
        return self._made[name]

    def kill(self, name: str) -> None:
        """End it, and what it started, at once."""
        made = self._made[name]
        for one in [*made.children(recursive=True), made]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        made.wait()

    def stop(self) -> None:
        for name, made in reversed(self._made.items()):
            with suppress(psutil.NoSuchProcess):
                made.terminate()
            try:
                made.wait(30)
            except psutil.TimeoutExpired:
                print(f"{self.system.name}: {name} did not stop, and was killed", file=sys.stderr)
                self.kill(name)

    def memory(self) -> Figures:
        """Return the resident megabytes of each process, those that it started included."""
        return {
            f"memory {name}, MiB": sum(
                one.memory_info().rss for one in [made, *made.children(recursive=True)]
            ) / 2**20
            for name, made in self._made.items()
        }  # fmt: skip


@contextmanager
def running(system: System) -> Iterator[Running]:
    """Start a system, and end it whatever happens."""
    made = Running(system)
    try:
        for name in system.commands:
            made.start(name)
        yield made
    finally:
        made.stop()


async def answering(system: System) -> None:
    """Wait until it takes requests."""
    await _until(lambda: _status(system, system.look("nothing")), READY_WITHIN, f"{system.name} to answer")


async def _status(system: System, request: bytes) -> int:
    try:
        caller = await load.Caller.open(system.url)
    except OSError:
        return 0
    try:
        return (await caller.ask(request)).status
    except (OSError, asyncio.IncompleteReadError):
        return 0
    finally:
        caller.close()


async def _until(ready: Any, within: float, what: str) -> None:
    until = time.monotonic() + within
    while not await ready():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {within:.0f} s for {what}")
        await asyncio.sleep(0.1)


class Turn:
    """What is measured of one system, in this order."""

    def __init__(
        self, made: Running, system: System | None = None, *, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.made = made
        self.system = system or made.system
        self.figures: Figures = {}
        self._say = say

    async def measure(self) -> None:
        """Fill `figures`, as far as it comes."""
        await answering(self.system)
        await self.warm_up()
        self._note(self.made.memory())
        for connections in (1, 50):
            self._note(await self._submissions(connections))
        self._note(await self._polls())
        self._note(await self._drain())
        self._note(await self._seen())
        for handlers in (1, 8):
            self._note(await self._reports(handlers))
        self._note(await self._freshness())
        self._note({f"{name}, at the end": value for name, value in self.made.memory().items()})
        if self.system.durable:
            self._note(await self._kills())

    def _note(self, figures: Figures) -> None:
        self.figures |= figures
        for name, value in figures.items():
            self._say(f"  {name:45} {value:14,.1f}")

    # The measurements.

    async def warm_up(self) -> None:
        await _until(self._submittable, READY_WITHIN, "a job to be taken")
        _, ids = await self.submit(self.system.submission("noop"), connections=10, seconds=2)
        await self.ended(ids)

    async def _submittable(self) -> bool:
        return await _status(self.system, self.system.submission("noop")) == 202

    async def _submissions(self, connections: int) -> Figures:
        sample, ids = await self.submit(self.system.submission("noop"), connections=connections, seconds=SECONDS)
        await self.ended(ids)
        return {
            f"submissions/s, {connections} connections": sample.rate,
            **_latency(f"submission, {connections} connections", sample),
        }

    async def _polls(self) -> Figures:
        _, ids = await self.submit(self.system.submission("noop"), connections=10, number=100)
        await self.ended(ids)
        requests = [self.system.look(one) for one in ids]
        sample = (await self._poll(requests)).expect(200)
        figures = {"polls/s, 50 connections": sample.rate, **_latency("poll, 50 connections", sample)}
        caller = await load.Caller.open(self.system.url)
        answers = [await caller.ask(request) for request in requests]
        caller.close()
        tags = [_header(answer.head, b"etag") for answer in answers]
        if all(tags):
            conditional = [self.system.look(one, f"if-none-match: {tag}") for one, tag in zip(ids, tags, strict=True)]
            figures["304 polls/s, 50 connections"] = (await self._poll(conditional)).expect(304).rate
        return figures

    async def _poll(self, requests: Sequence[bytes]) -> load.Sample:
        every = load.for_seconds(SECONDS, lambda number: requests[number % len(requests)])
        return await load.run(self.system.url, every, connections=50)

    async def _drain(self) -> Figures:
        jobs, before = 5_000, _redis_bytes()
        begun = time.perf_counter()
        _, ids = await self.submit(self.system.submission("noop"), connections=20, number=jobs)
        await self.ended(ids)
        figures = {"jobs/s, 5,000 no-ops end to end": jobs / (time.perf_counter() - begun)}
        await asyncio.sleep(1)
        if self.system.durable:
            figures["Redis bytes per finished job"] = (_redis_bytes() - before) / jobs
        return figures

    async def _seen(self) -> Figures:
        """From the submission to the poll that sees the end; asked for at once, and then each millisecond."""
        caller, submission, took = await load.Caller.open(self.system.url), self.system.submission("noop"), []
        for _ in range(300):
            begun = time.perf_counter()
            job_id = json.loads((await caller.ask(submission)).body)["id"]
            look = self.system.look(job_id)
            while json.loads((await caller.ask(look)).body)["status"] != "succeeded":
                await asyncio.sleep(0.001)
            took.append(time.perf_counter() - begun)
        caller.close()
        return _latency("submit to seen", load.Sample(latencies=took))

    async def _reports(self, handlers: int) -> Figures:
        seconds = 3.0
        request = self.system.submission("chatter", seconds=seconds)
        _, ids = await self.submit(request, connections=handlers, number=handlers)
        ended = await self.ended(ids)
        return {f"reports/s, {handlers} handlers": sum(job["result"] for job in ended) / seconds}

    async def _freshness(self) -> Figures:
        """How old a report is when a client that polls every 5 ms first sees it; and one that listens, where it can."""
        figures: Figures = {}
        for how, watch in (("poll", self._watch_by_polls), ("SSE", self._watch_by_stream)):
            caller = await load.Caller.open(self.system.url)
            answer = json.loads((await caller.ask(self.system.submission("stamped", steps=100, every=0.15))).body)
            ages = await watch(caller, answer["id"])
            caller.close()
            if ages:
                figures |= _latency(f"freshness by {how}", load.Sample(latencies=ages))
        return figures

    async def _watch_by_polls(self, caller: load.Caller, job_id: str) -> list[float]:
        ages, last, look = list[float](), None, self.system.look(job_id)
        while True:
            job = json.loads((await caller.ask(look)).body)
            message = (job.get("progress") or {}).get("message")
            if message and message != last:
                ages.append(time.time() - float(message))
                last = message
            if job["status"] == "succeeded":
                return ages
            await asyncio.sleep(0.005)

    async def _watch_by_stream(self, caller: load.Caller, job_id: str) -> list[float]:
        if self.system.name != "milepost":
            return []
        where = self.system.look(f"{job_id}/events", "accept: text/event-stream")
        return [age async for age in ages_in_stream(caller, where) if age is not None]

    async def _kills(self) -> Figures:
        """Kill the worker twice while it is at 200 jobs; count those without an end a minute after the last one's."""
        _, ids = await self.submit(self.system.submission("pause", seconds=0.1), connections=10, number=200)
        for _ in range(2):
            await asyncio.sleep(0.7)
            self.made.kill("worker")
            await asyncio.sleep(0.3)
            self.made.start("worker")
            await asyncio.sleep(3)
        statuses = await self._statuses(ids)
        quiet = time.monotonic()
        while time.monotonic() - quiet < STUCK_AFTER and any(one != "succeeded" for one in statuses):
            await asyncio.sleep(0.5)
            now = await self._statuses(ids)
            if now != statuses:
                statuses, quiet = now, time.monotonic()
        return {"lost or stuck of 200 jobs, two kills": sum(one != "succeeded" for one in statuses)}

    # What they are made of.

    async def submit(
        self, request: bytes, *, connections: int, seconds: float = 0, number: int = 0
    ) -> tuple[load.Sample, list[str]]:
        bodies: list[bytes] = []
        requests = iter([request] * number) if number else load.for_seconds(seconds, lambda _: request)
        sample = await load.run(
            self.system.url, requests, connections=connections, answered=lambda answer: bodies.append(answer.body)
        )
        sample.expect(202)
        return sample, [json.loads(body)["id"] for body in bodies]

    async def ended(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return these jobs once all have succeeded. The last ones are asked after first: most are done by then."""
        caller, found = await load.Caller.open(self.system.url), list[dict[str, Any]]()
        quiet_since = time.monotonic()
        for one in reversed(ids):
            while True:
                job = json.loads((await caller.ask(self.system.look(one))).body)
                if job["status"] == "succeeded":
                    found.append(job)
                    quiet_since = time.monotonic()
                    break
                if time.monotonic() - quiet_since > ENDS_WITHIN:
                    raise TimeoutError(f"{self.system.name}: {job} has not ended")
                await asyncio.sleep(0.01)
        caller.close()
        return found

    async def _statuses(self, ids: Sequence[str]) -> list[str]:
        caller = await load.Caller.open(self.system.url)
        found = [json.loads((await caller.ask(self.system.look(one))).body)["status"] for one in ids]
        caller.close()
        return found


async def ages_in_stream(caller: load.Caller, where: bytes) -> AsyncIterator[float | None]:
    """Yield nothing for the snapshot, once the stream is open, and then how old each report is that comes."""
    seen = 0.0
    async for line in caller.lines(where):
        if line == b"event: succeeded":
            return
        if line == b"event: snapshot":
            yield None
        elif line == b"event: progressed":
            seen = time.time()
        elif line.startswith(b"data:") and seen:
            yield seen - float(json.loads(line[5:])["data"]["progress"]["message"])
            seen = 0.0
    raise RuntimeError("the stream ended before its job")


def _latency(what: str, sample: load.Sample) -> Figures:
    return {f"{what}, p50 ms": 1000 * sample.quantile(0.5), f"{what}, p99 ms": 1000 * sample.quantile(0.99)}


def _header(head: bytes, name: bytes) -> str | None:
    for line in head.split(b"\r\n"):
        if line.startswith(name + b":"):
            return line.partition(b":")[2].strip().decode()
    return None


def _redis_bytes() -> int:
    with redis.Redis.from_url(os.environ["MILEPOST_REDIS_URL"]) as client:
        return int(client.info("memory")["used_memory_dataset"])  # without the buffers of connections
