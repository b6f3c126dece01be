"""How Milepost scales: with its processes, with the jobs that Redis has, with its readers, with what a job reports.

    make bench-scaling        (it starts a RabbitMQ and a Redis of its own; ARGS="--jobs 10000" stops there)

Everything runs on one machine, the driver too: where the cores are used up, more processes share them. Writes what was
measured as JSON, and as the tables that docs/benchmarks.md takes in.
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
from systems import PORT, System, milepost
from turn import Running, Turn, ages_in_stream, answering, running

from milepost_contracts.envelope import now
from milepost_contracts.events import JobSucceeded, encode_event
from milepost_contracts.ids import Keyring, SigningKey
from milepost_contracts.keys import Keys
from milepost_contracts.topology import Topology
from milepost_contracts.values import Attempt, Job
from milepost_contracts.view import merge
from milepost_tracker.settings import TrackerSettings
from milepost_tracker.store import RedisStatusStore

SECONDS, NOOPS, BACKLOG = 4.0, 3_000, 10_000
POWERS = (1_000, 10_000, 100_000, 1_000_000)
READERS = (10, 100, 500, 1_000, 2_000)
REPORTS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)

Row = dict[str, float]


@dataclass(frozen=True)
class Curve:
    says: str
    #: What the first column counts.
    over: str
    measure: Callable[[argparse.Namespace], AsyncIterator[Row]]


def several(**counts: int) -> System:
    """Milepost with so many of some of its processes: http, worker, tracker."""
    one = milepost()
    commands = dict(one.commands)
    for name, count in counts.items():
        for number in range(1, count):
            port = [f"MILEPOST_PORT={PORT + number}"] if name == "http" else []
            commands[f"{name}-{number}"] = ["env", *port, *one.commands[name]]
    return replace(one, commands=commands)


async def ready(made: Running) -> Turn:
    one = Turn(made)
    await answering(made.system)
    await one.warm_up()
    return one


@contextmanager
def cores(*processes: psutil.Process) -> Iterator[dict[int, float]]:
    """Note how many seconds of a core each process took meanwhile."""
    taken = {one.pid: -sum(one.cpu_times()[:2]) for one in processes}
    yield taken
    for one in processes:
        taken[one.pid] += sum(one.cpu_times()[:2])


# The curves.


async def gateways(_: argparse.Namespace) -> AsyncIterator[Row]:
    for count in (1, 2):
        with running(several(http=count)) as made:
            one = await ready(made)
            each = [Turn(made, replace(made.system, port=PORT + number)) for number in range(count)]
            for other in each:
                await answering(other.system)
            request = made.system.submission("noop")
            found = await asyncio.gather(
                *(other.submit(request, connections=50 // count, seconds=SECONDS) for other in each)
            )
            yield {"gateways": count, "submissions/s, 50 connections": sum(sample.rate for sample, _ in found)}
            await one.ended([job_id for _, ids in found for job_id in ids])


async def processors(_: argparse.Namespace) -> AsyncIterator[Row]:
    for count in (1, 2, 4):
        with running(several(worker=count)) as made:
            one = await ready(made)
            begun = time.perf_counter()
            _, ids = await one.submit(made.system.submission("noop"), connections=20, number=NOOPS)
            await one.ended(ids)
            noops = NOOPS / (time.perf_counter() - begun)
            begun = time.perf_counter()
            _, ids = await one.submit(made.system.submission("pause", seconds=0.1), connections=20, number=400)
            await one.ended(ids)
            yield {
                "processors": count,
                "no-ops/s end to end": noops,
                "jobs/s of 0.1 s each": 400 / (time.perf_counter() - begun),
            }


async def trackers(_: argparse.Namespace) -> AsyncIterator[Row]:
    """A backlog of ends, written while there is no tracker, until the view has them all. Each reads the log too."""
    for count in (1, 2, 4):
        system = several(tracker=count)
        names = [name for name in system.commands if name.startswith("tracker")]
        with running(system) as made:
            await ready(made)
            before = await _succeeded(system)
            for name in names:
                made.kill(name)
            async with await aio_pika.connect(os.environ["MILEPOST_RABBITMQ_URL"]) as connection:
                await _say_ends(await connection.channel(publisher_confirms=True), system, BACKLOG)
            for name in names:
                made.start(name)
            first, at = await _until_more(system, before)
            last, then = await _until_more(system, before + BACKLOG - 1)
            yield {"trackers": count, "ends projected/s": (last - first) / (then - at)}


async def _until_more(system: System, than: int) -> tuple[int, float]:
    """Wait until the view has more ends than these; return how many it has, and when."""
    while (found := await _succeeded(system)) <= than:
        await asyncio.sleep(0.05)
    return found, time.perf_counter()


async def _succeeded(system: System) -> int:
    caller = await load.Caller.open(system.url)
    try:
        answer = await caller.ask(load.get("/v1/jobs/counts"))
        return int(json.loads(answer.body)["succeeded"]) if answer.status == 200 else 0
    finally:
        caller.close()


async def jobs(asked: argparse.Namespace) -> AsyncIterator[Row]:
    """One connection, each look at another job, so that no cache helps."""
    with running(milepost()) as made:
        one = await ready(made)
        async with redis.asyncio.Redis.from_url(os.environ["MILEPOST_REDIS_URL"]) as client:
            store = _store(client, made.system)
            ids: list[str] = []
            for count in POWERS:
                if count > asked.jobs:
                    return
                while len(ids) < count:
                    some = list(_ends(made.system, min(2_000, count - len(ids))))
                    await store.apply(merge(some))
                    ids += [event.job.id for event in some]
                looks = [made.system.look(one_id) for one_id in ids[:: max(1, len(ids) // 5_000)]]
                every = load.for_seconds(SECONDS, lambda n, looks=looks: looks[n * 7_919 % len(looks)])
                sample = (await load.run(one.system.url, every, connections=1)).expect(200)
                lists = load.for_seconds(2, lambda _: load.get("/v1/jobs?limit=50"))
                listed = (await load.run(one.system.url, lists, connections=1)).expect(200)
                yield {
                    "jobs in Redis": count,
                    "a look, p50 ms": 1000 * sample.quantile(0.5),
                    "a look, p99 ms": 1000 * sample.quantile(0.99),
                    "the first page of the list, p50 ms": 1000 * listed.quantile(0.5),
                    "Redis, MiB": (await client.info("memory"))["used_memory"] / 2**20,
                }


async def readers(_: argparse.Namespace) -> AsyncIterator[Row]:
    """Each reads the events of one and the same job, which reports seven times a second once all of them listen."""
    with running(milepost()) as made:
        await ready(made)
        gateway = made.process("http")
        for count in READERS:
            caller = await load.Caller.open(made.system.url)
            job = {"type": "stamped", "params": {"steps": 40, "every": 0.15}, "delay": 2 + count // 200}
            asked = await caller.ask(load.post(made.system.jobs, json.dumps(job).encode()))
            where = made.system.look(f"{json.loads(asked.body)['id']}/events", "accept: text/event-stream")
            ages: list[float] = []
            listening = asyncio.Barrier(count + 1)
            tasks = [asyncio.create_task(_read(made.system.url, where, ages, listening)) for _ in range(count)]
            await listening.wait()
            with cores(gateway) as taken:
                begun = time.perf_counter()
                await asyncio.gather(*tasks)
                lasted = time.perf_counter() - begun
            caller.close()
            at = statistics.quantiles(ages, n=100, method="inclusive")
            yield {
                "readers": count,
                "a report seen, p50 ms": 1000 * at[49],
                "a report seen, p99 ms": 1000 * at[98],
                "frames/s": len(ages) / lasted,
                "gateway, % of a core": 100 * taken[gateway.pid] / lasted,
            }


async def _read(url: str, where: bytes, ages: list[float], listening: asyncio.Barrier) -> None:
    caller = await load.Caller.open(url)
    async for age in ages_in_stream(caller, where):
        if age is None:
            await listening.wait()
        else:
            ages.append(age)
    caller.close()


async def reports(asked: argparse.Namespace) -> AsyncIterator[Row]:
    """A handler that does nothing but report; what the services spend on it."""
    with running(milepost()) as made:
        one = await ready(made)
        services = [made.process(name) for name in made.system.commands]
        for count in REPORTS:
            if count > asked.reports:
                return
            with cores(*services) as taken:
                begun = time.perf_counter()
                _, ids = await one.submit(
                    made.system.submission("stamped", steps=count, every=0), connections=1, number=1
                )
                await one.ended(ids)
                lasted = time.perf_counter() - begun
            yield {
                "reports": count,
                "seconds from end to end": lasted,
                "of a core, ms": 1000 * sum(taken.values()),
                "of a core, µs for each report": 1e6 * sum(taken.values()) / count,
            }


CURVES = {
    "gateways": Curve("Handing over", "gateways", gateways),
    "processors": Curve("Running", "processors", processors),
    "trackers": Curve("Projecting", "trackers", trackers),
    "jobs": Curve("Asking, as jobs accumulate", "jobs in Redis", jobs),
    "readers": Curve("Listening", "readers", readers),
    "reports": Curve("Reporting", "reports", reports),
}


# What they are made of.


def _store(client: "redis.asyncio.Redis", system: System) -> RedisStatusStore:
    usual = TrackerSettings.model_fields
    keys = Keys(namespace=system.environment["MILEPOST_NAMESPACE"])
    return RedisStatusStore(
        client, keys, retention=usual["retention"].default, live_for=usual["live_for"].default
    )  # fmt: skip


def _ends(system: System, count: int) -> Iterable[JobSucceeded]:
    keyring = Keyring(SigningKey.parse_all(system.environment["MILEPOST_ID_KEYS"]))
    for _ in range(count):
        at = now()
        attempt = Attempt(number=1, worker="bench", started_at=at, ended_at=at, why="succeeded")
        job = Job(id=keyring.issue("default"), tenant="default", type="noop", queue="default", params={}, created_at=at)
        ran = {"turn": 1, "attempt": 1, "attempts": (attempt,), "execution": "0badcafe", "worker": "bench", "step": 1}
        yield JobSucceeded(job=job.model_copy(update={**ran, "started_at": at, "finished_at": at}))


async def _say_ends(channel: aio_pika.abc.AbstractChannel, system: System, count: int) -> None:
    topology = Topology(namespace=system.environment["MILEPOST_NAMESPACE"])
    exchange, room = await channel.get_exchange(topology.jobs.name, ensure=False), asyncio.Semaphore(100)

    async def say(event: JobSucceeded) -> None:
        async with room:
            message = aio_pika.Message(encode_event(event), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, event.routing_key)

    await asyncio.gather(*(say(event) for event in _ends(system, count)))


def table(curve: Curve, rows: Sequence[Row]) -> str:
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'---:|' * len(names)}"]
    lines += [f"| {' | '.join(_told(row[name]) for name in names)} |" for row in rows]
    return f"### {curve.says}\n\n" + "\n".join(lines)


def _told(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


async def measure(asked: argparse.Namespace) -> None:
    found: dict[str, list[Row]] = json.loads(asked.to.read_text()) if asked.only and asked.to.exists() else {}
    for name, curve in CURVES.items():
        if asked.only and name not in asked.only:
            continue
        async with redis.asyncio.Redis.from_url(os.environ["MILEPOST_REDIS_URL"]) as client:
            await client.flushall()
        found[name] = []
        async for row in curve.measure(asked):
            print(f"{curve.says}: " + ", ".join(f"{what} {_told(value)}" for what, value in row.items()), flush=True)
            found[name].append(row)
    asked.to.parent.mkdir(parents=True, exist_ok=True)
    asked.to.write_text(json.dumps(found, indent=1) + "\n")
    parts = [table(curve, found[name]) for name, curve in CURVES.items() if found.get(name)]
    asked.to.with_suffix(".md").write_text("\n\n".join(parts) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="*", default=[], help=f"some of {', '.join(CURVES)}; the others stay as they were"
    )
    parser.add_argument("--jobs", type=int, default=POWERS[-1], help="the most jobs in Redis; a million take 5 GB")
    parser.add_argument("--reports", type=int, default=REPORTS[-1], help="the most reports of a job")
    parser.add_argument("--to", type=Path, default=Path("bench/results/scaling.json"), help="where the figures go")
    asked = parser.parse_args()
    if unknown := set(asked.only) - set(CURVES):
        parser.error(f"there is no curve {', '.join(sorted(unknown))}; there are {', '.join(CURVES)}")
    uvloop.run(measure(asked))


if __name__ == "__main__":
    sys.exit(main())
