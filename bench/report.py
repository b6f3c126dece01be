"""Makes tables and plots of what `compare.py` measured: medians of the rounds, and how they compare.

    bench/.venv/bin/python bench/report.py bench/results/compare.json

Writes `compare.md` beside the figures, which docs/benchmarks.md takes in, and plots in docs/images.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from systems import PEERS

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
DURABLE = [system.name for system in PEERS if system.durable]
LIBRARIES = (
    "celery",
    "taskiq",
    "taskiq-aio-pika",
    "taskiq-redis",
    "dramatiq",
    "aio-pika",
    "fastapi",
    "uvicorn",
    "redis",
)

Medians = dict[str, dict[str, float]]

TABLES = {
    "Handing over, and asking": (
        "submissions/s, 1 connections",
        "submissions/s, 50 connections",
        "submission, 50 connections, p50 ms",
        "submission, 50 connections, p99 ms",
        "polls/s, 50 connections",
        "poll, 50 connections, p99 ms",
        "304 polls/s, 50 connections",
    ),
    "From end to end": (
        "jobs/s, 5,000 no-ops end to end",
        "submit to seen, p50 ms",
        "submit to seen, p99 ms",
        "reports/s, 1 handlers",
        "reports/s, 8 handlers",
        "freshness by poll, p99 ms",
        "freshness by SSE, p99 ms",
        "lost or stuck of 200 jobs, two kills",
    ),
    "What it takes": (
        "memory http, MiB",
        "memory worker, MiB",
        "memory tracker, MiB",
        "memory http, MiB, at the end",
        "memory worker, MiB, at the end",
        "memory tracker, MiB, at the end",
        "Redis bytes per finished job",
    ),
}


@dataclass(frozen=True)
class Aim:
    """What Milepost is to reach."""

    says: str
    least: float
    value: Callable[[Medians], float]
    #: Whether it must not be more.
    most: bool = False


def _best(medians: Medians, metric: str, choose: Callable[..., float] = max) -> float:
    return choose(medians[name][metric] for name in DURABLE if metric in medians.get(name, {}))


def _ratio(metric: str, beside: Callable[[Medians], float]) -> Callable[[Medians], float]:
    return lambda medians: medians["milepost"][metric] / beside(medians)


def _hello(medians: Medians) -> float:
    return medians["FastAPI hello"]["polls/s, 50 connections"]


SUBMITTED, POLLED, NOT_MODIFIED, DRAINED, SEEN = (
    "submissions/s, 50 connections",
    "polls/s, 50 connections",
    "304 polls/s, 50 connections",
    "jobs/s, 5,000 no-ops end to end",
    "submit to seen, p50 ms",
)
AIMS = (
    Aim("submissions/s beside the best durable peer", 2, _ratio(SUBMITTED, lambda all_: _best(all_, SUBMITTED))),
    Aim("submissions/s beside safe Celery", 4, _ratio(SUBMITTED, lambda all_: all_["celery, safe"][SUBMITTED])),
    Aim("polls/s beside FastAPI hello", 1.8, _ratio(POLLED, _hello)),
    Aim("polls/s beside the best durable peer", 5, _ratio(POLLED, lambda all_: _best(all_, POLLED))),
    Aim("304 polls/s beside FastAPI hello", 2.4, _ratio(NOT_MODIFIED, _hello)),
    Aim("jobs/s beside the best durable peer", 1, _ratio(DRAINED, lambda all_: _best(all_, DRAINED))),
    Aim("jobs/s beside safe Celery", 2, _ratio(DRAINED, lambda all_: all_["celery, safe"][DRAINED])),
    Aim("submit to seen, beside the quickest durable peer", 1, _ratio(SEEN, lambda all_: _best(all_, SEEN, min)), True),
    Aim("reports/s of one handler", 500_000, lambda all_: all_["milepost"]["reports/s, 1 handlers"]),
    Aim("freshness by poll, p99 ms", 100, lambda all_: all_["milepost"]["freshness by poll, p99 ms"], True),
    Aim("freshness by SSE, p99 ms", 100, lambda all_: all_["milepost"]["freshness by SSE, p99 ms"], True),
    Aim("lost or stuck", 0, lambda all_: all_["milepost"]["lost or stuck of 200 jobs, two kills"], True),
    Aim(
        "idle memory of the three services, MiB",
        250,
        lambda all_: sum(all_["milepost"][f"memory {name}, MiB"] for name in ("http", "worker", "tracker")),
        True,
    ),
)


def main() -> None:
    """Write the tables and plots."""
    source = Path(sys.argv[1])
    results = json.loads(source.read_text())
    medians = {system: _medians(rounds) for system, rounds in results.items()}
    rounds = max(len(found) for found in results.values())
    parts = [f"{_machine()}\n\nMedians of {rounds} round{'s' if rounds > 1 else ''}.", _aims(medians)]
    parts += [f"### {title}\n\n{_table(medians, metrics)}" for title, metrics in TABLES.items()]
    source.with_suffix(".md").write_text("\n\n".join(parts) + "\n")
    _plot(medians)


def _medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    names = {name: None for figures in rounds for name in figures}
    return {name: statistics.median(figures[name] for figures in rounds if name in figures) for name in names}


def _machine() -> str:
    """Name what was measured with; arq has an environment of its own, see its lock."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    servers = [_first_line("redis-server", "--version"), _first_line("rabbitmqctl", "version")]
    return f"{os.cpu_count()} cores, Python {platform.python_version()}; {'; '.join(servers)}; {libraries}."


def _first_line(*words: str) -> str:
    try:
        answer = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return words[0]
    return f"{words[0]}: {answer.stdout.strip().splitlines()[0][:40]}"


def _aims(medians: Medians) -> str:
    lines = ["| Milepost | wanted | is |", "|---|---:|---:|"]
    for aim in AIMS:
        try:
            found = aim.value(medians)
        except (KeyError, ValueError, ZeroDivisionError):
            found = None
        sign = "≤" if aim.most else "≥"
        lines.append(f"| {aim.says} | {sign} {aim.least:,g} | {_shown(found)} |")
    return "\n".join(lines)


def _table(medians: Medians, metrics: Sequence[str]) -> str:
    systems = [name for name, found in medians.items() if any(metric in found for metric in metrics)]
    lines = ["| | " + " | ".join(systems) + " |", "|---|" + "---:|" * len(systems)]
    lines += [
        f"| {metric} | " + " | ".join(_shown(medians[name].get(metric)) for name in systems) + " |"
        for metric in metrics
    ]
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _plot(medians: Medians) -> None:
    mpl.rcParams["svg.hashsalt"] = "milepost"
    plots = {"submissions": SUBMITTED, "polls": POLLED, "jobs": DRAINED}
    figure, places = plt.subplots(1, len(plots), figsize=(11, 3), layout="constrained")
    for place, metric in zip(places, plots.values(), strict=True):
        found = {name: figures[metric] for name, figures in medians.items() if metric in figures}
        names = sorted(found, key=lambda name: found[name])
        colors = ["#2f6fde" if name == "milepost" else "#9aa5b1" for name in names]
        place.barh(names, [found[name] for name in names], color=colors)
        place.set_title(metric, fontsize=9)
        place.tick_params(labelsize=8)
        place.spines[["top", "right"]].set_visible(False)
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / "benchmarks.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
