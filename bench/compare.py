"""Milepost beside what a user would pick instead: one driver, one machine, one run, systems in turn.

    make bench        (it starts a RabbitMQ and a Redis of its own)

Writes what was measured as JSON; `report.py` makes a page of it.
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
from systems import PEERS, System, milepost
from turn import Turn, running

Results = dict[str, list[dict[str, float]]]
FLOORS = "floors"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each system has its turn")
    parser.add_argument("--only", nargs="*", default=[], help="names of systems; 'milepost' and 'floors' are two")
    parser.add_argument("--to", type=Path, default=Path("bench/results/compare.json"), help="where the figures go")
    asked = parser.parse_args()
    names = ["milepost", *(system.name for system in PEERS), FLOORS]
    if unknown := set(asked.only) - set(names):
        parser.error(f"there is no system {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    results: Results = {}
    for number in range(asked.rounds):
        first = number % len(names)  # nobody is always the first, or behind the same one
        for name in names[first:] + names[:first]:
            if asked.only and name not in asked.only:
                continue
            print(f"round {number + 1} of {asked.rounds}: {name}", flush=True)
            for system, figures in turn(name).items():
                results.setdefault(system, []).append(figures)
            asked.to.parent.mkdir(parents=True, exist_ok=True)
            asked.to.write_text(json.dumps(results, indent=1) + "\n")


def turn(name: str) -> dict[str, dict[str, float]]:
    """Return what is measured of one system, with nothing of the others about."""
    with redis.Redis.from_url(os.environ["MILEPOST_REDIS_URL"]) as client:
        client.flushall()
    if name == FLOORS:
        return uvloop.run(floors.measure())
    system = milepost() if name == "milepost" else next(one for one in PEERS if one.name == name)
    return {name: uvloop.run(measured(system))}


async def measured(system: System) -> dict[str, float]:
    """Return the figures, up to where it failed: the others are measured all the same."""
    with running(system) as made:
        one = Turn(made, say=lambda text: print(text, flush=True))
        try:
            await one.measure()
        except Exception:  # noqa: BLE001
            traceback.print_exc(file=sys.stderr)
        return one.figures


if __name__ == "__main__":
    main()
