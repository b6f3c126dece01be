"""Streams: how late a report is seen, and what an idle reader costs.

    make bench-own    (it starts a stack of its own, with the handlers of `bench_jobs.py`)

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

EVERY = 0.15
"""Seconds between two reports; more than ten a second would be coalesced on purpose."""


async def delays(http: httpx.AsyncClient, steps: int) -> list[float]:
    """Return how many seconds each report took to its frame."""
    asked = {"type": "stamped", "params": {"steps": steps, "every": EVERY}}
    location = (await http.post("/v1/jobs", json=asked)).raise_for_status().headers["location"]
    found = []
    async with httpx_sse.aconnect_sse(http, "GET", f"{location}/events") as source:
        async for event in source.aiter_sse():
            seen = time.time()
            progress = json.loads(event.data)["data"].get("progress")
            if event.event == "progressed" and progress:
                found.append(seen - float(progress["message"]))
    return found


def told(seconds: list[float]) -> str:
    """Say it as people do."""
    at = statistics.quantiles(seconds, n=100, method="inclusive")
    p50, p99, most = (f"{1000 * value:.1f} ms" for value in (at[49], at[98], max(seconds)))
    return f"{len(seconds)} reports: p50 {p50}, p99 {p99}, at most {most}"


async def read_for_ever(http: httpx.AsyncClient, location: str, opened: list[str]) -> None:
    async with httpx_sse.aconnect_sse(http, "GET", f"{location}/events") as source:
        async for _ in source.aiter_sse():  # for ever: it counts as open with its first event
            opened.extend([location])


async def measure(url: str, gateway: psutil.Process, *, steps: int, streams: int, seconds: float) -> None:
    """Print the figures."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:
        print(f"nobody else reads   {told(await delays(http, steps))}", flush=True)
        later = {"type": "stamped", "params": {"steps": 1, "every": 0}, "delay": 3_600}
        places = [
            (await http.post("/v1/jobs", json=later)).raise_for_status().headers["location"] for _ in range(streams)
        ]
        before, opened = gateway.memory_info().rss, list[str]()
        readers = [asyncio.create_task(read_for_ever(http, place, opened)) for place in places]
        begun = time.monotonic()
        while len(opened) < streams:
            await asyncio.sleep(0.1)
            if any(reader.done() for reader in readers):
                sys.exit("a stream ended")
        took = time.monotonic() - begun
        used = sum(gateway.cpu_times()[:2])
        await asyncio.sleep(seconds)
        busy = (sum(gateway.cpu_times()[:2]) - used) / seconds
        after = gateway.memory_info().rss
        each = (after - before) / streams / 1024
        print(
            f"{streams} idle streams   open within {took:.1f} s: {before / 2**20:.1f} MB before, "
            f"{after / 2**20:.1f} MB with them, {each:.1f} KiB each; {100 * busy:.1f} % of a core"
        )
        print(f"beside them         {told(await delays(http, steps))}", flush=True)
        for place in places:
            await http.post(f"{place}/cancel")
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


def gateway_at(url: str) -> psutil.Process:
    """Return the process that listens there."""
    port = httpx.URL(url).port
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in process.net_connections()):
                return process
    sys.exit(f"no process of yours listens at {url}")


def main() -> None:
    """Measure the stack that this runs in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="reports to measure")
    parser.add_argument("--streams", type=int, default=1_000, help="idle readers")
    parser.add_argument("--seconds", type=float, default=20, help="how long they idle")
    asked = parser.parse_args()
    url = os.environ["MILEPOST_URL"]
    asyncio.run(measure(url, gateway_at(url), steps=asked.steps, streams=asked.streams, seconds=asked.seconds))


if __name__ == "__main__":
    main()
