"""The measurements of one system: its processes, and each measurement in order."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import load
import psutil
import redis
from systems import ROOT, System, environment

READY_TIMEOUT = 60.0
NO_PROGRESS_TIMEOUT = 120.0
"""Seconds without another finished job after which waiting for jobs fails."""
MEASURE_SECONDS = 4.0
STUCK_TIMEOUT = 60.0
"""Seconds without a change after which unfinished jobs count as stuck."""
LOGS = ROOT / ".milepost" / "bench"

Figures = dict[str, float]


class RunningSystem:
    """A system and its processes."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._processes: dict[str, psutil.Popen] = {}

    def start(self, name: str) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        log = LOGS / f"{self.system.name.replace(', ', '-').replace(' ', '-')}.{name}.log"
        with log.open("ab") as out:
            self._processes[name] = psutil.Popen(
                self.system.commands[name],
                env=environment(self.system),
                cwd=LOGS,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def process(self, name: str) -> psutil.Popen:
        return self._processes[name]

    def kill(self, name: str) -> None:
        """Kill a process and its descendants with SIGKILL."""
        process = self._processes[name]
        for one in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()

    def stop(self) -> None:
        """Stop all processes in reverse order: SIGTERM, then SIGKILL after 30 seconds."""
        for name, process in reversed(self._processes.items()):
            with suppress(psutil.NoSuchProcess):
                process.terminate()
            try:
                process.wait(30)
            except psutil.TimeoutExpired:
                print(f"{self.system.name}: {name} did not stop in time and was killed", file=sys.stderr)
                self.kill(name)

    def memory(self) -> Figures:
        """Return the resident memory of each process and its descendants, in MiB."""
        return {
            f"memory {name}, MiB": sum(
                one.memory_info().rss for one in [process, *process.children(recursive=True)]
            ) / 2**20
            for name, process in self._processes.items()
        }  # fmt: skip


@contextmanager
def started(system: System) -> Iterator[RunningSystem]:
    """Start a system; stop it at the end of the context."""
    running = RunningSystem(system)
    try:
        for name in system.commands:
            running.start(name)
        yield running
    finally:
        running.stop()


async def wait_until_answering(system: System) -> None:
    """Wait until the system answers requests."""
    await _wait_until(lambda: _answers(system), READY_TIMEOUT, f"{system.name} to answer")


async def _answers(system: System) -> bool:
    return await _status(system, system.poll("nothing")) != 0


async def _status(system: System, request: bytes) -> int:
    """Return the status of the response; 0 if there is none."""
    try:
        client = await load.HttpClient.open(system.url)
    except OSError:
        return 0
    try:
        return (await client.send(request)).status
    except (OSError, asyncio.IncompleteReadError):
        return 0
    finally:
        client.close()


async def _wait_until(ready: Callable[[], Awaitable[bool]], seconds: float, description: str) -> None:
    deadline = time.monotonic() + seconds
    while not await ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {description}")
        await asyncio.sleep(0.1)


class Measurements:
    """The measurements of one system, and their results."""

    def __init__(
        self,
        running: RunningSystem,
        system: System | None = None,
        *,
        print_line: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Measure `system`, by default the one that runs: another one may be its second gateway."""
        self.running = running
        self.system = system or running.system
        self.figures: Figures = {}
        self._print_line = print_line

    async def measure_all(self) -> None:
        """Do all measurements in order, and add their results to `figures`."""
        await wait_until_answering(self.system)
        await self.warm_up()
        self._record(self.running.memory())
        for connections in (1, 50):
            self._record(await self._submissions(connections))
        self._record(await self._polls())
        self._record(await self._drain())
        self._record(await self._submit_to_seen())
        for handlers in (1, 8):
            self._record(await self._reports(handlers))
        self._record(await self._freshness())
        self._record({f"{name}, at the end": value for name, value in self.running.memory().items()})
        if self.system.durable:
            self._record(await self._kills())

    def _record(self, figures: Figures) -> None:
        self.figures |= figures
        for name, value in figures.items():
            self._print_line(f"  {name:45} {value:14,.1f}")

    # The measurements

    async def warm_up(self) -> None:
        """Submit jobs for two seconds and wait for them."""
        await _wait_until(self._accepts_jobs, READY_TIMEOUT, "a job to be accepted")
        _, ids = await self.submit(self.system.submission("noop"), connections=10, seconds=2)
        await self.wait_for(ids)

    async def _accepts_jobs(self) -> bool:
        return await _status(self.system, self.system.submission("noop")) == 202

    async def _submissions(self, connections: int) -> Figures:
        noop = self.system.submission("noop")
        sample, ids = await self.submit(noop, connections=connections, seconds=MEASURE_SECONDS)
        await self.wait_for(ids)
        return {
            f"submissions/s, {connections} connections": sample.rate,
            **_latency(f"submission, {connections} connections", sample),
        }

    async def _polls(self) -> Figures:
        _, ids = await self.submit(self.system.submission("noop"), connections=10, number=100)
        await self.wait_for(ids)
        requests = [self.system.poll(one) for one in ids]
        sample = (await self._poll(requests)).expect(200)
        figures = {"polls/s, 50 connections": sample.rate, **_latency("poll, 50 connections", sample)}
        client = await load.HttpClient.open(self.system.url)
        responses = [await client.send(request) for request in requests]
        client.close()
        tags = [_header(response.head, b"etag") for response in responses]
        if all(tags):
            conditional = [self.system.poll(one, f"if-none-match: {tag}") for one, tag in zip(ids, tags, strict=True)]
            figures["304 polls/s, 50 connections"] = (await self._poll(conditional)).expect(304).rate
        return figures

    async def _poll(self, requests: Sequence[bytes]) -> load.Sample:
        repeated = load.for_seconds(MEASURE_SECONDS, lambda number: requests[number % len(requests)])
        return await load.run(self.system.url, repeated, connections=50)

    async def _drain(self) -> Figures:
        jobs, before = 5_000, _redis_bytes()
        started_at = time.perf_counter()
        _, ids = await self.submit(self.system.submission("noop"), connections=20, number=jobs)
        await self.wait_for(ids)
        figures = {"jobs/s, 5,000 no-ops end to end": jobs / (time.perf_counter() - started_at)}
        await asyncio.sleep(1)
        if self.system.durable:
            figures["Redis bytes per finished job"] = (_redis_bytes() - before) / jobs
        return figures

    async def _submit_to_seen(self) -> Figures:
        """Measure the time from a submission to the poll that shows its end; polls at once, then every millisecond."""
        client, submission, latencies = await load.HttpClient.open(self.system.url), self.system.submission("noop"), []
        for _ in range(300):
            started_at = time.perf_counter()
            job_id = json.loads((await client.send(submission)).body)["id"]
            poll = self.system.poll(job_id)
            while json.loads((await client.send(poll)).body)["status"] != "succeeded":
                await asyncio.sleep(0.001)
            latencies.append(time.perf_counter() - started_at)
        client.close()
        return _latency("submit to seen", load.Sample(latencies=latencies))

    async def _reports(self, handlers: int) -> Figures:
        seconds = 3.0
        request = self.system.submission("chatter", seconds=seconds)
        _, ids = await self.submit(request, connections=handlers, number=handlers)
        finished = await self.wait_for(ids)
        return {f"reports/s, {handlers} handlers": sum(job["result"] for job in finished) / seconds}

    async def _freshness(self) -> Figures:
        """Measure the age of a report when a client first sees it that polls every 5 ms, or one that reads a stream."""
        figures: Figures = {}
        for method, watch in (("poll", self._watch_by_polls), ("SSE", self._watch_by_stream)):
            client = await load.HttpClient.open(self.system.url)
            job = json.loads((await client.send(self.system.submission("stamped", steps=100, interval=0.15))).body)
            ages = await watch(client, job["id"])
            client.close()
            if ages:
                figures |= _latency(f"freshness by {method}", load.Sample(latencies=ages))
        return figures

    async def _watch_by_polls(self, client: load.HttpClient, job_id: str) -> list[float]:
        ages, last, poll = list[float](), None, self.system.poll(job_id)
        while True:
            job = json.loads((await client.send(poll)).body)
            message = (job.get("progress") or {}).get("message")
            if message and message != last:
                ages.append(time.time() - float(message))
                last = message
            if job["status"] == "succeeded":
                return ages
            await asyncio.sleep(0.005)

    async def _watch_by_stream(self, client: load.HttpClient, job_id: str) -> list[float]:
        if self.system.name != "milepost":
            return []
        request = self.system.poll(f"{job_id}/events", "accept: text/event-stream")
        return [age async for age in ages_in_stream(client, request) if age is not None]

    async def _kills(self) -> Figures:
        """Kill the worker twice while it runs 200 jobs; count those without an end a minute after the last change."""
        _, ids = await self.submit(self.system.submission("pause", seconds=0.1), connections=10, number=200)
        for _ in range(2):
            await asyncio.sleep(0.7)
            self.running.kill("worker")
            await asyncio.sleep(0.3)
            self.running.start("worker")
            await asyncio.sleep(3)
        statuses = await self._statuses(ids)
        changed_at = time.monotonic()
        while time.monotonic() - changed_at < STUCK_TIMEOUT and any(one != "succeeded" for one in statuses):
            await asyncio.sleep(0.5)
            now = await self._statuses(ids)
            if now != statuses:
                statuses, changed_at = now, time.monotonic()
        return {"lost or stuck of 200 jobs, two kills": sum(one != "succeeded" for one in statuses)}

    # Their parts

    async def submit(
        self, request: bytes, *, connections: int, seconds: float = 0, number: int = 0
    ) -> tuple[load.Sample, list[str]]:
        """Submit `number` jobs, or jobs for `seconds`; return the sample and the ids."""
        bodies: list[bytes] = []
        requests = iter([request] * number) if number else load.for_seconds(seconds, lambda _: request)
        sample = await load.run(
            self.system.url,
            requests,
            connections=connections,
            on_response=lambda response: bodies.append(response.body),
        )
        sample.expect(202)
        return sample, [json.loads(body)["id"] for body in bodies]

    async def wait_for(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return these jobs once all have succeeded. Polls the last one first: most others have ended by then."""
        client, finished = await load.HttpClient.open(self.system.url), list[dict[str, Any]]()
        progressed_at = time.monotonic()
        for one in reversed(ids):
            while True:
                job = json.loads((await client.send(self.system.poll(one))).body)
                if job["status"] == "succeeded":
                    finished.append(job)
                    progressed_at = time.monotonic()
                    break
                if time.monotonic() - progressed_at > NO_PROGRESS_TIMEOUT:
                    raise TimeoutError(f"{self.system.name}: {job} has not ended")
                await asyncio.sleep(0.01)
        client.close()
        return finished

    async def _statuses(self, ids: Sequence[str]) -> list[str]:
        client = await load.HttpClient.open(self.system.url)
        statuses = [json.loads((await client.send(self.system.poll(one))).body)["status"] for one in ids]
        client.close()
        return statuses


async def ages_in_stream(client: load.HttpClient, request: bytes) -> AsyncIterator[float | None]:
    """Yield `None` for the snapshot, once the stream is open, then the age in seconds of each report as it arrives."""
    seen = 0.0
    async for line in client.lines(request):
        if line == b"event: succeeded":
            return
        if line == b"event: snapshot":
            yield None
        elif line == b"event: progressed":
            seen = time.time()
        elif line.startswith(b"data:") and seen:
            yield seen - float(json.loads(line[5:])["data"]["progress"]["message"])
            seen = 0.0
    raise RuntimeError("the stream ended before the job")


def _latency(name: str, sample: load.Sample) -> Figures:
    return {f"{name}, p50 ms": 1000 * sample.quantile(0.5), f"{name}, p99 ms": 1000 * sample.quantile(0.99)}


def _header(head: bytes, name: bytes) -> str | None:
    for line in head.split(b"\r\n"):
        if line.startswith(name + b":"):
            return line.partition(b":")[2].strip().decode()
    return None


def _redis_bytes() -> int:
    with redis.Redis.from_url(os.environ["MILEPOST_REDIS_URL"]) as client:
        return int(client.info("memory")["used_memory_dataset"])  # without the buffers of connections
