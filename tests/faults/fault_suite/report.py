"""The table of what the faults led to: printed, and written to docs/faults.md by the whole suite."""

from collections.abc import Sequence
from pathlib import Path

from fault_suite.scenario import Row

HEAD = (
    "fault",
    "seed",
    "jobs",
    "not accepted",
    "unknown",
    "lost",
    "stuck",
    "doubled",
    "untold",
    "lies",
    "longest gap",
    "well again after",
)

INTRODUCTION = """\
# Faults

What `make faults` measured. A load of jobs (5 to 500 ms, one in a hundred 5 s; 5 % raise once, 1 % always) is handed
over to two gateways and run by three processors of eight threads, with two trackers; readers look at the jobs all the
while, and one follows the newest, at both gateways in turn and so eagerly that they answer out of memory. The fault
strikes; when it is over, and the load with it, everything must come to rest. Faults last for half the time that their
name says, but for the zombie: it must be frozen beyond its heartbeat. `make test` runs a short form of some of them.

The rows about three nodes, and the failover of Redis, run on three RabbitMQ nodes behind a load balancer and a Redis
with a replica behind a switch; all on one machine. A node whose disk was full is restarted once there is room: its log
does not recover by itself (RabbitMQ 3.10). The clocks are those of libfaketime. A process that takes more than 500 MB
is killed, as a container's kernel would.

- **not accepted**, **unknown**: answered 503, or not at all; 503 with the job's id.
- **lost**: accepted, and ended as `lost` or `expired`; must be 0, but where the fault itself destroys messages: of a
  queue that was purged, it must be as many as were purged. **stuck**: accepted, and never ended; must be 0.
- **doubled**: executions beyond those that the job's own retries explain: at least once is the promise.
- **untold**: a quarter of the jobs has a callback URL; those whose end no webhook told. Must be 0, but where the fault
  keeps events from the trackers, which the view then has from the log alone.
- **lies**: a 404 after a 202; a version or percent that went back, an end that was undone; a result that is not what
  the handler returned, an end that nobody brought about; a job that ran and was never handed over. Must be 0.
- **longest gap**: the longest time in which no job was accepted.
- **well again after**: from the end of the fault until a new job is accepted and seen to succeed within a second.

"""


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, with a line of sums."""
    lines = [HEAD, tuple("---" for _ in HEAD), *(cells(row) for row in rows)]
    sums = [sum(getattr(row, name) for row in rows) for name in ("jobs", "refused", "unknown", "lost", "stuck")]
    more = [sum(getattr(row, name) for row in rows) for name in ("doubled", "untold", "lies")]
    slowest = max((row.recovery or 0.0 for row in rows), default=0.0)
    lines.append(("**all**", "", *(f"**{number}**" for number in (*sums, *more)), "", f"at most {slowest:.1f} s"))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the page."""
    path.write_text(INTRODUCTION + table(rows) + "\n")


def cells(row: Row) -> tuple[str, ...]:
    """Return what the table says of a run."""
    numbers = (row.seed, row.jobs, row.refused, row.unknown, row.lost, row.stuck, row.doubled, row.untold, row.lies)
    recovery = "not" if row.recovery is None else f"{row.recovery:.1f} s"
    return (row.fault, *(str(number) for number in numbers), f"{row.gap:.1f} s", recovery)
