"""Makes tables and plots of the figures of `compare.py`: the medians of the rounds, and Milepost's targets.

    bench/.venv/bin/python bench/report.py bench/results/compare.json

Writes `compare.md` beside the figures, which docs/benchmarks.md includes, and the plots in docs/images.
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
    "Submissions and polls": (
        "submissions/s, 1 connections",
        "submissions/s, 50 connections",
        "submission, 50 connections, p50 ms",
        "submission, 50 connections, p99 ms",
        "polls/s, 50 connections",
        "poll, 50 connections, p99 ms",
        "304 polls/s, 50 connections",
    ),
    "End to end": (
        "jobs/s, 5,000 no-ops end to end",
        "submit to seen, p50 ms",
        "submit to seen, p99 ms",
        "reports/s, 1 handlers",
        "reports/s, 8 handlers",
        "freshness by poll, p99 ms",
        "freshness by SSE, p99 ms",
        "lost or stuck of 200 jobs, two kills",
    ),
    "Memory": (
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
class Target:
    """A target for Milepost."""

    label: str
    bound: float
    value: Callable[[Medians], float]
    #: Whether the bound is a maximum.
    is_maximum: bool = False


def _best(medians: Medians, metric: str, choose: Callable[..., float] = max) -> float:
    return choose(medians[name][metric] for name in DURABLE if metric in medians.get(name, {}))


def _ratio(metric: str, reference: Callable[[Medians], float]) -> Callable[[Medians], float]:
    return lambda medians: medians["milepost"][metric] / reference(medians)


def _hello(medians: Medians) -> float:
    return medians["FastAPI hello"]["polls/s, 50 connections"]


SUBMITTED, POLLED, NOT_MODIFIED, DRAINED, SEEN = (
    "submissions/s, 50 connections",
    "polls/s, 50 connections",
    "304 polls/s, 50 connections",
    "jobs/s, 5,000 no-ops end to end",
    "submit to seen, p50 ms",
)
TARGETS = (
    Target(
        "submissions/s relative to the best durable peer", 2, _ratio(SUBMITTED, lambda all_: _best(all_, SUBMITTED))
    ),
    Target("submissions/s relative to safe Celery", 4, _ratio(SUBMITTED, lambda all_: all_["celery, safe"][SUBMITTED])),
    Target("polls/s relative to FastAPI hello", 1.8, _ratio(POLLED, _hello)),
    Target("polls/s relative to the best durable peer", 5, _ratio(POLLED, lambda all_: _best(all_, POLLED))),
    Target("304 polls/s relative to FastAPI hello", 2.4, _ratio(NOT_MODIFIED, _hello)),
    Target("jobs/s relative to the best durable peer", 1, _ratio(DRAINED, lambda all_: _best(all_, DRAINED))),
    Target("jobs/s relative to safe Celery", 2, _ratio(DRAINED, lambda all_: all_["celery, safe"][DRAINED])),
    Target(
        "submit to seen, relative to the fastest durable peer",
        1,
        _ratio(SEEN, lambda all_: _best(all_, SEEN, min)),
        True,
    ),
    Target("reports/s of one handler", 500_000, lambda all_: all_["milepost"]["reports/s, 1 handlers"]),
    Target("freshness by poll, p99 ms", 100, lambda all_: all_["milepost"]["freshness by poll, p99 ms"], True),
    Target("freshness by SSE, p99 ms", 100, lambda all_: all_["milepost"]["freshness by SSE, p99 ms"], True),
    Target("lost or stuck jobs", 0, lambda all_: all_["milepost"]["lost or stuck of 200 jobs, two kills"], True),
    Target(
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
    parts = [f"{_machine()}\n\nMedians of {rounds} round{'s' if rounds > 1 else ''}.", _target_table(medians)]
    parts += [f"### {title}\n\n{_table(medians, metrics)}" for title, metrics in TABLES.items()]
    source.with_suffix(".md").write_text("\n\n".join(parts) + "\n")
    _plot(medians)


def _medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    names = {name: None for figures in rounds for name in figures}
    return {name: statistics.median(figures[name] for figures in rounds if name in figures) for name in names}


def _machine() -> str:
    """Return the versions of the programs and libraries; arq has an environment of its own, see uv.lock."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    servers = [_first_line("redis-server", "--version"), _first_line("rabbitmqctl", "version")]
    return f"{os.cpu_count()} cores, Python {platform.python_version()}; {'; '.join(servers)}; {libraries}."


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return command[0]
    return f"{command[0]}: {done.stdout.strip().splitlines()[0][:40]}"


def _target_table(medians: Medians) -> str:
    lines = ["| Milepost | target | measured |", "|---|---:|---:|"]
    for target in TARGETS:
        try:
            found = target.value(medians)
        except (KeyError, ValueError, ZeroDivisionError):
            found = None
        sign = "≤" if target.is_maximum else "≥"
        lines.append(f"| {target.label} | {sign} {target.bound:,g} | {_format(found)} |")
    return "\n".join(lines)


def _table(medians: Medians, metrics: Sequence[str]) -> str:
    systems = [name for name, found in medians.items() if any(metric in found for metric in metrics)]
    lines = ["| | " + " | ".join(systems) + " |", "|---|" + "---:|" * len(systems)]
    lines += [
        f"| {metric} | " + " | ".join(_format(medians[name].get(metric)) for name in systems) + " |"
        for metric in metrics
    ]
    return "\n".join(lines)


def _format(value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _plot(medians: Medians) -> None:
    mpl.rcParams["svg.hashsalt"] = "milepost"
    plots = {"submissions": SUBMITTED, "polls": POLLED, "jobs": DRAINED}
    figure, axes = plt.subplots(1, len(plots), figsize=(11, 3), layout="constrained")
    for axis, metric in zip(axes, plots.values(), strict=True):
        found = {name: figures[metric] for name, figures in medians.items() if metric in figures}
        names = sorted(found, key=lambda name: found[name])
        colors = ["#2f6fde" if name == "milepost" else "#9aa5b1" for name in names]
        axis.barh(names, [found[name] for name in names], color=colors)
        axis.set_title(metric, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / "benchmarks.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
