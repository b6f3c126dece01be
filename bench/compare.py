"""Compares Milepost with the alternatives: one driver, one machine, one run, one system after the other.

    make bench        (starts its own RabbitMQ and Redis)

Writes the figures as JSON; `report.py` makes tables and plots of them.
"""

import argparse
import json
import os
import sys
import traceback
from pathlib import Path

import floors
import redis
import uvloop
from measurements import Measurements, started
from systems import PEERS, System, milepost

Results = dict[str, list[dict[str, float]]]
FLOORS = "floors"


def main() -> None:
    """Measure the systems, and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds; each measures every system once")
    parser.add_argument("--only", nargs="*", default=[], help="names of systems, or 'milepost', or 'floors'")
    parser.add_argument(
        "--to", type=Path, default=Path("bench/results/compare.json"), help="file to save the figures in"
    )
    options = parser.parse_args()
    names = ["milepost", *(system.name for system in PEERS), FLOORS]
    if unknown := set(options.only) - set(names):
        parser.error(f"unknown system: {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    results: Results = {}
    for number in range(options.rounds):
        first = number % len(names)  # each round starts with another system
        for name in names[first:] + names[:first]:
            if options.only and name not in options.only:
                continue
            print(f"round {number + 1} of {options.rounds}: {name}", flush=True)
            for system, figures in measure_system(name).items():
                results.setdefault(system, []).append(figures)
            options.to.parent.mkdir(parents=True, exist_ok=True)
            options.to.write_text(json.dumps(results, indent=1) + "\n")


def measure_system(name: str) -> dict[str, dict[str, float]]:
    """Return the figures of one system by their names, or of each floor. Deletes everything in Redis first."""
    with redis.Redis.from_url(os.environ["MILEPOST_REDIS_URL"]) as client:
        client.flushall()
    if name == FLOORS:
        return uvloop.run(floors.measure())
    system = milepost() if name == "milepost" else next(peer for peer in PEERS if peer.name == name)
    return {name: uvloop.run(_measure(system))}


async def _measure(system: System) -> dict[str, float]:
    """Return the figures; if a measurement fails, those before it, so that the other systems are still measured."""
    with started(system) as processes:
        measurements = Measurements(processes, print_line=lambda text: print(text, flush=True))
        try:
            await measurements.measure_all()
        except Exception:  # noqa: BLE001
            traceback.print_exc(file=sys.stderr)
        return measurements.figures


if __name__ == "__main__":
    main()
