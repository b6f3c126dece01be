"""The table of the fault matrix's results: printed, and written to docs/faults.md by the full suite."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

HEAD = (
    "fault",
    "seed",
    "what it did",
    "jobs",
    "not accepted",
    "unknown",
    "lost",
    "stuck",
    "extra runs",
    "no webhook",
    "contradictions",
    "longest gap",
    "recovered after",
    "took",
)

INTRODUCTION = """\
# Faults

The results of `make faults`. A load of jobs (5 to 500 ms, one in a hundred 5 s; 5 % raise once, 1 % always) is
submitted to two gateways and run by three processors of eight threads, with two trackers; 4 % are canceled soon after
their submission. Readers poll the jobs all the time; one polls the newest job, at both gateways in turn and often
enough that they answer from their hot cache; one reads the newest job's stream, and resumes it at the other gateway.
After the fault and the load, all queues must become empty. Faults last half the time that their name says, except the
zombie, which must be frozen beyond its heartbeat. `make test` runs a short form of some of them.

The rows about three nodes, and the failover of Redis, run on three RabbitMQ nodes behind a load balancer and a Redis
with a replica behind a switch, all on one machine. A node whose disk was full is restarted once there is room: its log
does not recover by itself (RabbitMQ 3.10). Wrong clocks are set with libfaketime. A process that takes more than 500 MB
is killed, as a container's kernel would.

One row fails for now: while half of the clients stay connected to a Redis master that was demoted, both masters take
writes and answer reads, so a reader who asks both sees a status go back. No job is lost by it.

In the rows about two versions, some services have the code of the previous version, installed from the history of the
repository with the dependencies that it locks. The first of these rows begins with servers that only that version has
used. Each row says how much the services of each version did.

The table is of RabbitMQ 3.10. These rows, which depend on delivery counts, passed on RabbitMQ 4.0.5 and Redis 8.0 too,
with one seed: kill -9 of processors; outcomes and retries can't be published; RabbitMQ restarted while jobs end;
handlers that kill their worker; a handler that leaks; handlers that stop the event loop; a new job type at one of three
processors; messages that nobody can read; 20 % of the commands published again. No job was lost.
`tools/on-debian-13 make faults SEEDS=1 ARGS="-k 'outcomes or leaks'"` runs rows there, in a container, and prints their
table; it has no history, so not the rows about two versions.

- **what it did**: the proof that the fault took hold, as observed from outside the services: processes that were gone,
  submissions that were refused, messages that were published twice. A row without a proof fails as vacuous.
- **not accepted**, **unknown**: answered 503, or not at all; answered 503 with the job's id.
- **lost**: accepted, and ended as `lost` or `expired`. Must be 0, except where the fault itself destroys messages: for
  a purged queue, it must be the number of purged messages. **stuck**: accepted, and never ended. Must be 0.
- **extra runs**: executions that the job's own retries do not explain; at-least-once execution allows them.
- **no webhook**: a quarter of the jobs has a callback URL; this counts those whose end no webhook reported. Must be 0,
  except where the fault keeps events from the trackers: the view then gets them from the log.
- **contradictions**: a 404 after a 202; a version, an attempt or a percent that went back; an end that was undone; in a
  stream, the start of an execution after its progress, or its progress after its end; webhooks of one job's end with
  several ids; a result that the handler did not return; an end without a cause; a job that ran and was never submitted,
  or whose handler started after readers were told that it was canceled. Must be 0.
- **longest gap**: the longest time in which no job was accepted.
- **recovered after**: the time from the end of the fault until a new job is accepted and seen to succeed within a
  second.
- **took**: the whole row, with its load before and after, and the wait until everything has ended.

"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The results of one run of one fault."""

    fault: str
    seed: int
    #: What the fault was seen to do.
    proof: str
    jobs: int
    refused: int
    unknown: int
    lost: int
    stuck: int
    extra_runs: int
    missing_webhooks: int
    contradictions: int
    gap: float
    recovery: float | None
    #: Seconds, from the start of the load until everything was idle and checked.
    took: float = 0.0
    #: The invariants that did not hold, in sentences.
    violations: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        return not self.violations


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, with a line of sums."""
    lines = [HEAD, tuple("---" for _ in HEAD), *(cells(row) for row in rows)]
    sums = [sum(getattr(row, name) for row in rows) for name in ("jobs", "refused", "unknown", "lost", "stuck")]
    more = [sum(getattr(row, name) for row in rows) for name in ("extra_runs", "missing_webhooks", "contradictions")]
    slowest = max((row.recovery or 0.0 for row in rows), default=0.0)
    took = f"{sum(row.took for row in rows) / 60:.0f} min"
    lines.append(
        ("**all**", "", "", *(f"**{number}**" for number in (*sums, *more)), "", f"at most {slowest:.1f} s", took)
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the page docs/faults.md."""
    path.write_text(INTRODUCTION + table(rows) + "\n")


def cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row."""
    numbers = (
        row.jobs,
        row.refused,
        row.unknown,
        row.lost,
        row.stuck,
        row.extra_runs,
        row.missing_webhooks,
        row.contradictions,
    )
    recovery = "not" if row.recovery is None else f"{row.recovery:.1f} s"
    counts = (str(number) for number in numbers)
    return (row.fault, str(row.seed), row.proof, *counts, f"{row.gap:.1f} s", recovery, f"{row.took:.0f} s")
