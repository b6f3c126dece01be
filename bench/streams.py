"""Measures event streams: the delay of a report, and the cost of an idle reader.

    make bench-own    (starts its own stack with the handlers of `bench_jobs.py`)

The delay is from just before `run.progress()` in a handler to the frame at a client, on one clock.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from contextlib import suppress

import httpx
import httpx_sse
import psutil

REPORT_INTERVAL = 0.15
"""Seconds between two reports: more than ten per second would be coalesced."""


async def measure_delays(http: httpx.AsyncClient, steps: int) -> list[float]:
    """Return the seconds from each report to its frame."""
    submission = {"type": "stamped", "params": {"steps": steps, "interval": REPORT_INTERVAL}}
    location = (await http.post("/v1/jobs", json=submission)).raise_for_status().headers["location"]
    delays = []
    async with httpx_sse.aconnect_sse(http, "GET", f"{location}/events") as source:
        async for event in source.aiter_sse():
            seen = time.time()
            progress = json.loads(event.data)["data"].get("progress")
            if event.event == "progressed" and progress:
                delays.append(seen - float(progress["message"]))
    return delays


def summary(seconds: list[float]) -> str:
    """Return the number and quantiles of delays as text."""
    at = statistics.quantiles(seconds, n=100, method="inclusive")
    p50, p99, highest = (f"{1000 * value:.1f} ms" for value in (at[49], at[98], max(seconds)))
    return f"{len(seconds)} reports: p50 {p50}, p99 {p99}, max {highest}"


async def keep_reading(http: httpx.AsyncClient, location: str, opened: list[str]) -> None:
    async with httpx_sse.aconnect_sse(http, "GET", f"{location}/events") as source:
        async for _ in source.aiter_sse():  # endless; the first event shows that the stream is open
            opened.extend([location])


async def measure(url: str, gateway: psutil.Process, *, steps: int, streams: int, seconds: float) -> None:
    """Measure the delays without and with idle streams, and print them."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:
        print(f"no other readers    {summary(await measure_delays(http, steps))}", flush=True)
        delayed_job = {"type": "stamped", "params": {"steps": 1, "interval": 0}, "delay": 3_600}
        responses = [await http.post("/v1/jobs", json=delayed_job) for _ in range(streams)]
        locations = [response.raise_for_status().headers["location"] for response in responses]
        before, opened = gateway.memory_info().rss, list[str]()
        readers = [asyncio.create_task(keep_reading(http, location, opened)) for location in locations]
        started_at = time.monotonic()
        while len(opened) < streams:
            await asyncio.sleep(0.1)
            if any(reader.done() for reader in readers):
                sys.exit("a stream ended")
        took = time.monotonic() - started_at
        used = sum(gateway.cpu_times()[:2])
        await asyncio.sleep(seconds)
        busy = (sum(gateway.cpu_times()[:2]) - used) / seconds
        after = gateway.memory_info().rss
        each = (after - before) / streams / 1024
        print(
            f"{streams} idle streams   open within {took:.1f} s: {before / 2**20:.1f} MB before, "
            f"{after / 2**20:.1f} MB with them, {each:.1f} KiB each; {100 * busy:.1f} % of a core"
        )
        print(f"with idle streams   {summary(await measure_delays(http, steps))}", flush=True)
        for location in locations:
            await http.post(f"{location}/cancel")
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


def gateway_at(url: str) -> psutil.Process:
    """Return the process that listens on the port of this URL."""
    port = httpx.URL(url).port
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in process.net_connections()):
                return process
    sys.exit(f"no process of this user listens at {url}")


def main() -> None:
    """Measure the stack whose URL is in MILEPOST_URL."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="number of reports to measure")
    parser.add_argument("--streams", type=int, default=1_000, help="number of idle streams")
    parser.add_argument("--seconds", type=float, default=20, help="seconds for which CPU time is measured")
    options = parser.parse_args()
    url = os.environ["MILEPOST_URL"]
    asyncio.run(measure(url, gateway_at(url), steps=options.steps, streams=options.streams, seconds=options.seconds))


if __name__ == "__main__":
    main()
