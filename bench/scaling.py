"""Measures how Milepost scales with its processes, the jobs in Redis, the readers, and the reports of a job.

    make bench-scaling        (starts its own RabbitMQ and Redis; ARGS="--jobs 10000" stops at 10,000 jobs)

Everything runs on one machine, the driver too: once the cores are busy, more processes share them. Writes the figures
as JSON, and as the tables that docs/benchmarks.md includes.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aio_pika
import load
import psutil
import redis.asyncio
import uvloop
from measurements import Measurements, RunningSystem, ages_in_stream, started, wait_until_answering
from systems import PORT, System, broker_user, milepost

from milepost_contracts.clock import now
from milepost_contracts.grants import granted
from milepost_contracts.ids import Keyring, SigningKey
from milepost_contracts.messages.cloudevent import CONTENT_TYPE
from milepost_contracts.messages.job_events import JobSucceeded, encode_event
from milepost_contracts.messages.topology import Topology
from milepost_contracts.status.merge import merge
from milepost_contracts.status.redis_keys import Keys
from milepost_contracts.values import Attempt, Job
from milepost_tracker.adapters.redis.status_store import RedisStatusStore
from milepost_tracker.settings import TrackerSettings

MEASURE_SECONDS, NOOP_JOBS, BACKLOG_SIZE = 4.0, 3_000, 10_000
JOB_COUNTS = (1_000, 10_000, 100_000, 1_000_000)
READER_COUNTS = (10, 100, 500, 1_000, 2_000)
REPORT_COUNTS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)

Row = dict[str, float]


@dataclass(frozen=True)
class Curve:
    """One measurement, repeated with growing numbers."""

    title: str
    #: What the first column counts.
    over: str
    measure: Callable[[argparse.Namespace], AsyncIterator[Row]]


def scaled(**counts: int) -> System:
    """Return Milepost with these numbers of processes: http, worker, tracker; 1 by default."""
    one = milepost()
    commands = dict(one.commands)
    for name, count in counts.items():
        for number in range(1, count):
            port = [f"MILEPOST_PORT={PORT + number}"] if name == "http" else []
            commands[f"{name}-{number}"] = ["env", *port, *one.commands[name]]
    return replace(one, commands=commands)


async def warm_up(running: RunningSystem) -> Measurements:
    measurements = Measurements(running)
    await wait_until_answering(running.system)
    await measurements.warm_up()
    return measurements


@contextmanager
def cpu_seconds(*processes: psutil.Process) -> Iterator[dict[int, float]]:
    """Yield a dictionary; at the end of the context it has the CPU seconds of each process in it, by pid."""
    used = {one.pid: -sum(one.cpu_times()[:2]) for one in processes}
    yield used
    for one in processes:
        used[one.pid] += sum(one.cpu_times()[:2])


# The curves


async def gateways(_: argparse.Namespace) -> AsyncIterator[Row]:
    for count in (1, 2):
        with started(scaled(http=count)) as running:
            measurements = await warm_up(running)
            by_gateway = [Measurements(running, replace(running.system, port=PORT + number)) for number in range(count)]
            for one in by_gateway:
                await wait_until_answering(one.system)
            request = running.system.submission("noop")
            results = await asyncio.gather(
                *(one.submit(request, connections=50 // count, seconds=MEASURE_SECONDS) for one in by_gateway)
            )
            yield {"gateways": count, "submissions/s, 50 connections": sum(sample.rate for sample, _ in results)}
            await measurements.wait_for([job_id for _, ids in results for job_id in ids])


async def processors(_: argparse.Namespace) -> AsyncIterator[Row]:
    for count in (1, 2, 4):
        with started(scaled(worker=count)) as running:
            measurements = await warm_up(running)
            started_at = time.perf_counter()
            _, ids = await measurements.submit(running.system.submission("noop"), connections=20, number=NOOP_JOBS)
            await measurements.wait_for(ids)
            noops = NOOP_JOBS / (time.perf_counter() - started_at)
            started_at = time.perf_counter()
            _, ids = await measurements.submit(
                running.system.submission("pause", seconds=0.1), connections=20, number=400
            )
            await measurements.wait_for(ids)
            yield {
                "processors": count,
                "no-ops/s end to end": noops,
                "jobs/s of 0.1 s each": 400 / (time.perf_counter() - started_at),
            }


async def trackers(_: argparse.Namespace) -> AsyncIterator[Row]:
    """Measure the time to project a backlog of ends that was published while no tracker ran. Each reads the log too."""
    for count in (1, 2, 4):
        system = scaled(tracker=count)
        names = [name for name in system.commands if name.startswith("tracker")]
        with started(system) as running:
            await warm_up(running)
            before = await _succeeded(system)
            for name in names:
                running.kill(name)
            async with await aio_pika.connect(os.environ["MILEPOST_RABBITMQ_URL"]) as connection:
                await _publish_ends(await connection.channel(publisher_confirms=True), system, BACKLOG_SIZE)
            for name in names:
                running.start(name)
            first, first_at = await _wait_for_more(system, before)
            last, last_at = await _wait_for_more(system, before + BACKLOG_SIZE - 1)
            yield {"trackers": count, "ends projected/s": (last - first) / (last_at - first_at)}


async def _wait_for_more(system: System, known: int) -> tuple[int, float]:
    """Wait until the view has more ends than `known`; return their number, and the time."""
    while (count := await _succeeded(system)) <= known:
        await asyncio.sleep(0.05)
    return count, time.perf_counter()


async def _succeeded(system: System) -> int:
    http = await load.HttpClient.open(system.url)
    try:
        response = await http.send(load.get("/v1/jobs/counts"))
        return int(json.loads(response.body)["succeeded"]) if response.status == 200 else 0
    finally:
        http.close()


async def jobs(options: argparse.Namespace) -> AsyncIterator[Row]:
    """Measure polls over one connection, each of another job, so that no cache helps."""
    with started(milepost()) as running:
        measurements = await warm_up(running)
        async with redis.asyncio.Redis.from_url(os.environ["MILEPOST_REDIS_URL"]) as client:
            store = _store(client, running.system)
            ids: list[str] = []
            for count in JOB_COUNTS:
                if count > options.jobs:
                    return
                while len(ids) < count:
                    batch = list(_ends(running.system, min(2_000, count - len(ids))))
                    await store.apply(merge(batch))
                    ids += [event.job.id for event in batch]
                polls = [running.system.poll(one_id) for one_id in ids[:: max(1, len(ids) // 5_000)]]
                requests = load.for_seconds(MEASURE_SECONDS, lambda n, polls=polls: polls[n * 7_919 % len(polls)])
                sample = (await load.run(measurements.system.url, requests, connections=1)).expect(200)
                lists = load.for_seconds(2, lambda _: load.get("/v1/jobs?limit=50"))
                listed = (await load.run(measurements.system.url, lists, connections=1)).expect(200)
                yield {
                    "jobs in Redis": count,
                    "poll, p50 ms": 1000 * sample.quantile(0.5),
                    "poll, p99 ms": 1000 * sample.quantile(0.99),
                    "first page of the list, p50 ms": 1000 * listed.quantile(0.5),
                    "Redis, MiB": (await client.info("memory"))["used_memory"] / 2**20,
                }


async def readers(_: argparse.Namespace) -> AsyncIterator[Row]:
    """Measure streams that all read the same job, which reports seven times a second once all streams are open."""
    with started(milepost()) as running:
        await warm_up(running)
        gateway = running.process("http")
        for count in READER_COUNTS:
            http = await load.HttpClient.open(running.system.url)
            job = {"type": "stamped", "params": {"steps": 40, "interval": 0.15}, "delay": 2 + count // 200}
            response = await http.send(load.post(running.system.jobs_path, json.dumps(job).encode()))
            request = running.system.poll(f"{json.loads(response.body)['id']}/events", "accept: text/event-stream")
            ages: list[float] = []
            all_open = asyncio.Barrier(count + 1)
            tasks = [asyncio.create_task(_read(running.system.url, request, ages, all_open)) for _ in range(count)]
            await all_open.wait()
            with cpu_seconds(gateway) as used:
                started_at = time.perf_counter()
                await asyncio.gather(*tasks)
                duration = time.perf_counter() - started_at
            http.close()
            percentiles = statistics.quantiles(ages, n=100, method="inclusive")
            yield {
                "readers": count,
                "report delay, p50 ms": 1000 * percentiles[49],
                "report delay, p99 ms": 1000 * percentiles[98],
                "frames/s": len(ages) / duration,
                "gateway, % of a core": 100 * used[gateway.pid] / duration,
            }


async def _read(url: str, request: bytes, ages: list[float], all_open: asyncio.Barrier) -> None:
    http = await load.HttpClient.open(url)
    async for age in ages_in_stream(http, request):
        if age is None:
            await all_open.wait()
        else:
            ages.append(age)
    http.close()


async def reports(options: argparse.Namespace) -> AsyncIterator[Row]:
    """Measure the time and CPU time for a handler that does nothing but report."""
    with started(milepost()) as running:
        measurements = await warm_up(running)
        services = [running.process(name) for name in running.system.commands]
        for count in REPORT_COUNTS:
            if count > options.reports:
                return
            with cpu_seconds(*services) as used:
                started_at = time.perf_counter()
                _, ids = await measurements.submit(
                    running.system.submission("stamped", steps=count, interval=0), connections=1, number=1
                )
                await measurements.wait_for(ids)
                duration = time.perf_counter() - started_at
            yield {
                "reports": count,
                "seconds end to end": duration,
                "CPU time, ms": 1000 * sum(used.values()),
                "CPU time, µs per report": 1e6 * sum(used.values()) / count,
            }


CURVES = {
    "gateways": Curve("Submitting", "gateways", gateways),
    "processors": Curve("Running", "processors", processors),
    "trackers": Curve("Projecting", "trackers", trackers),
    "jobs": Curve("Polling, as jobs accumulate", "jobs in Redis", jobs),
    "readers": Curve("Streaming", "readers", readers),
    "reports": Curve("Reporting", "reports", reports),
}


# Their parts


def _store(client: "redis.asyncio.Redis", system: System) -> RedisStatusStore:
    defaults = TrackerSettings.model_fields
    keys = Keys(namespace=system.environment["MILEPOST_NAMESPACE"])
    return RedisStatusStore(
        client, keys, retention=defaults["retention"].default, live_for=defaults["live_for"].default
    )  # fmt: skip


def _ends(system: System, count: int) -> Iterable[JobSucceeded]:
    keyring = Keyring(SigningKey.parse_all(system.environment["MILEPOST_ID_KEYS"]))
    for _ in range(count):
        at = now()
        attempt = Attempt(number=1, worker="bench", started_at=at, ended_at=at, why="succeeded")
        job_id = keyring.issue("default")
        job = Job(id=job_id, tenant="default", type="noop", queue="default", params={}, created_at=at)
        outcome = {
            "delivery": 1,
            "attempt": 1,
            "attempts": (attempt,),
            "execution": "0badcafe",
            "worker": "bench",
            "step": 1,
        }
        yield JobSucceeded(
            job=granted(job, keyring).model_copy(update={**outcome, "started_at": at, "finished_at": at})
        )


async def _publish_ends(channel: aio_pika.abc.AbstractChannel, system: System, count: int) -> None:
    topology = Topology(namespace=system.environment["MILEPOST_NAMESPACE"])
    exchange, slots = await channel.get_exchange(topology.jobs.name, ensure=False), asyncio.Semaphore(100)

    async def publish(event: JobSucceeded) -> None:
        async with slots:
            message = aio_pika.Message(
                encode_event(event),
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                user_id=broker_user(),
                correlation_id=event.subject,
                content_type=CONTENT_TYPE,
            )
            await exchange.publish(message, event.routing_key)

    await asyncio.gather(*(publish(event) for event in _ends(system, count)))


def format_table(curve: Curve, rows: Sequence[Row]) -> str:
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'---:|' * len(names)}"]
    lines += [f"| {' | '.join(_format(row[name]) for name in names)} |" for row in rows]
    return f"### {curve.title}\n\n" + "\n".join(lines)


def _format(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


async def measure(options: argparse.Namespace) -> None:
    results: dict[str, list[Row]] = json.loads(options.to.read_text()) if options.only and options.to.exists() else {}
    for name, curve in CURVES.items():
        if options.only and name not in options.only:
            continue
        async with redis.asyncio.Redis.from_url(os.environ["MILEPOST_REDIS_URL"]) as client:
            await client.flushall()
        results[name] = []
        async for row in curve.measure(options):
            print(
                f"{curve.title}: " + ", ".join(f"{label} {_format(value)}" for label, value in row.items()), flush=True
            )
            results[name].append(row)
    options.to.parent.mkdir(parents=True, exist_ok=True)
    options.to.write_text(json.dumps(results, indent=1) + "\n")
    parts = [format_table(curve, results[name]) for name, curve in CURVES.items() if results.get(name)]
    options.to.with_suffix(".md").write_text("\n\n".join(parts) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="*", default=[], help=f"some of {', '.join(CURVES)}; the figures of the others are kept"
    )
    parser.add_argument(
        "--jobs", type=int, default=JOB_COUNTS[-1], help="maximum number of jobs in Redis; a million take 5 GB"
    )
    parser.add_argument("--reports", type=int, default=REPORT_COUNTS[-1], help="maximum number of reports of a job")
    parser.add_argument(
        "--to", type=Path, default=Path("bench/results/scaling.json"), help="file to save the figures in"
    )
    options = parser.parse_args()
    if unknown := set(options.only) - set(CURVES):
        parser.error(f"unknown curve: {', '.join(sorted(unknown))}; choose from {', '.join(CURVES)}")
    uvloop.run(measure(options))


if __name__ == "__main__":
    sys.exit(main())
