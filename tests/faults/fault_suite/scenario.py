"""One run of one fault: load, fault, recovery, and the verdict."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import httpx

from fault_suite.cluster import Cluster
from fault_suite.ledger import ENDED, Executions, Ledger, Submitted
from fault_suite.load import ANSWER_TIMEOUT, MAX_ANSWER_TIMEOUT, TIMEOUT, Load, Mix
from fault_suite.receiver import Receiver, receiving

INFERRED_KINDS = ("lost", "expired")
"""Error kinds that the tracker infers: the job was not started in time, or no further event of it arrived."""

_LONG_DELAY = re.compile(r"\.delay\.(0[89]|[12][0-9])$")
"""The delay levels from 256 s on."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Rate of the load, and durations."""

    #: Submissions per second.
    rate: float
    #: Seconds of load before the fault and after it.
    before: float
    #: Factor for the durations of faults: 1 for the full length.
    scale: float
    #: Duration of the slow jobs, in milliseconds.
    slow: int
    #: Seed of random faults.
    seed: int = 1
    #: Factor for the allowed times of recoveries and answers. The full matrix allows no more than promised; the short
    #: form runs beside other tests, on busy cores.
    lenience: float = 1.0
    #: Seconds until the cluster must be idle after a fault. Delayed messages may wait for minutes more: RabbitMQ 3.10's
    #: dead-lettering worker retries a queue with a new leader up to five times, a minute each.
    idle_timeout: float = 330.0

    def seconds(self, full: float) -> float:
        """Scale the length of a fault."""
        return full * self.scale

    def times(self, full: int) -> int:
        """Scale a number of repetitions; at least two."""
        return max(2, round(full * self.scale))


Act = Callable[[Cluster, Pace], int | None]
"""Causes the fault; may return how many jobs it destroyed: exactly so many must end as lost."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A row of the matrix."""

    name: str
    act: Act
    #: Whether it is part of `make test`, in a short form.
    star: bool = False
    #: The behaviours of the first jobs.
    first: tuple[str, ...] = ()
    #: Whether submissions may be answered late, as when the gateway itself is frozen.
    may_be_late: bool = False
    #: Seconds allowed for the recovery.
    recovers_within: float = 10.0
    #: Longest time in seconds without an accepted job, if it must be shorter than the fault.
    max_gap: float | None = None
    #: How many unexpected extra executions are allowed.
    max_extra_runs: int = 0
    #: Whether jobs may end as lost, because the fault itself destroys their messages.
    may_lose: bool = False
    #: `expires_in` of the jobs, in seconds, if not the default.
    expires_in: int | None = None
    #: Whether webhooks may be missing, because the fault keeps events from the trackers; the view has the log.
    may_miss_webhooks: bool = False
    #: Whether no job fails or is slow: the test is too short to wait for one that is retried or requeued.
    only_quick_successes: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """The results of one run of one fault."""

    fault: str
    seed: int
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
    #: The invariants that did not hold, in sentences.
    violations: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        return not self.violations


def run(fault: Fault, cluster: Cluster, pace: Pace, *, seed: int) -> Row:
    """Run one fault under load, and check the invariants."""
    begun_at = cluster.ledger.stat().st_size if cluster.ledger.exists() else 0
    ledger = Ledger(cluster.ledger)
    options = {} if fault.expires_in is None else {"expires_in": fault.expires_in}
    with receiving() as receiver:
        load = Load(
            cluster.urls,
            ledger,
            rate=pace.rate,
            seed=seed,
            mix=_mix(fault, pace),
            callback_url=receiver.url,
            first=fault.first,
            options=options,
        )
        with load.running():
            time.sleep(pace.before)
            destroyed = fault.act(cluster, replace(pace, seed=seed))
            recovery = load.recovered(within=60)
            time.sleep(pace.before)
        row = _check(fault, cluster, pace, ledger, load, receiver, recovery=recovery, seed=seed, begun_at=begun_at)
    if destroyed not in (None, row.lost):
        return replace(
            row, violations=(*row.violations, f"{destroyed} jobs were destroyed, and {row.lost} ended as lost")
        )
    return row


def _mix(fault: Fault, pace: Pace) -> Mix:
    failing = {"raise_once": 0, "raise_always": 0, "slow": 0} if fault.only_quick_successes else {}
    return Mix(slow_takes=pace.slow, **failing)


def _check(
    fault: Fault,
    cluster: Cluster,
    pace: Pace,
    ledger: Ledger,
    load: Load,
    receiver: Receiver,
    *,
    recovery: float | None,
    seed: int,
    begun_at: int,
) -> Row:
    documents = _final(cluster, pace, ledger, load)
    executions = Executions.read(cluster.ledger, begun_at)
    accepted = ledger.accepted
    stuck = [one for one in accepted if documents[one.nonce].get("status") not in ENDED]
    lost = [one for one in accepted if _kind(documents[one.nonce]) in INFERRED_KINDS]
    contradictions = [*ledger.contradictions, *_wrong_ends(accepted, documents, executions)]
    missing_webhooks = _missing_webhooks(accepted, documents, receiver, within=pace.idle_timeout / 4)
    unexpected = {nonce for nonce in executions.starts if load.is_of_this_load(nonce)} - set(ledger.submitted)
    extra_runs = sum(max(0, executions.starts[one.nonce] - _expected_starts(one)) for one in accepted)
    violations = []
    if stuck:
        violations.append(f"{len(stuck)} jobs did not end, for example {stuck[0].job_id}: {documents[stuck[0].nonce]}")
    if lost and not fault.may_lose:
        violations.append(f"{len(lost)} jobs ended as lost, for example {lost[0].job_id}")
    violations += contradictions[:3]
    if missing_webhooks and not fault.may_miss_webhooks:
        violations.append(f"{len(missing_webhooks)} webhooks are missing, for example of {missing_webhooks[0].job_id}")
    if unexpected:
        violations.append(f"{len(unexpected)} jobs ran that were never submitted")
    if extra_runs > fault.max_extra_runs:
        violations.append(f"{extra_runs} executions more than expected; {fault.max_extra_runs} are allowed")
    if pace.lenience == 1 and not load.polled_hot:
        violations.append("no job was polled often enough for the hot cache")
    late = [
        seconds for seconds in load.answer_times if seconds > min(pace.lenience * ANSWER_TIMEOUT, MAX_ANSWER_TIMEOUT)
    ]
    if late and not fault.may_be_late:
        violations.append(f"{len(late)} submissions were answered late, after up to {max(late):.1f} s (inf: never)")
    recovers_within = pace.lenience * fault.recovers_within
    if recovery is None or recovery > recovers_within:
        violations.append(f"recovered after {recovery} s; {recovers_within} s are allowed")
    if fault.max_gap is not None and ledger.longest_gap > pace.lenience * fault.max_gap:
        violations.append(f"no job was accepted for {ledger.longest_gap:.1f} s; {fault.max_gap} s are allowed")
    left = _leftover_messages(cluster, pace)
    if left:
        violations.append(f"queues are not empty: {left}")
    refused = [one for one in ledger.submitted.values() if not one.accepted]
    return Row(
        fault=fault.name,
        seed=seed,
        jobs=len(accepted),
        refused=sum(one.job_id is None for one in refused),
        unknown=sum(one.job_id is not None for one in refused),
        lost=len(lost),
        stuck=len(stuck),
        extra_runs=extra_runs,
        missing_webhooks=len(missing_webhooks),
        contradictions=len(contradictions) + len(unexpected),
        gap=ledger.longest_gap,
        recovery=recovery,
        violations=tuple(violations),
    )


def _final(cluster: Cluster, pace: Pace, ledger: Ledger, load: Load) -> dict[str, dict[str, object]]:
    """Wait until every job has ended, and return the documents, also of jobs that have not ended in time."""
    deadline = time.monotonic() + pace.idle_timeout
    waiting = {one.nonce: one for one in ledger.accepted}
    documents: dict[str, dict[str, object]] = {nonce: {} for nonce in waiting}
    urls = cluster.urls()
    with httpx.Client(timeout=TIMEOUT) as http:
        while waiting and time.monotonic() < deadline:
            for nonce, submitted in list(waiting.items()):
                document = load.get(http, submitted, urls[len(waiting) % len(urls)])
                if document is not None:
                    documents[nonce] = document
                    if document["status"] in ENDED:
                        del waiting[nonce]
            time.sleep(0.2)
    return documents


def _missing_webhooks(
    accepted: list[Submitted], documents: dict[str, dict[str, object]], receiver: Receiver, *, within: float
) -> list[Submitted]:
    """Wait for the webhooks of all ends; return the jobs whose webhook is missing."""
    deadline = time.monotonic() + within
    while True:
        missing_webhooks = [
            one
            for one in accepted
            if one.has_callback and one.job_id and documents[one.nonce].get("status") not in receiver.ends[one.job_id]
        ]
        if not missing_webhooks or time.monotonic() > deadline:
            return missing_webhooks
        time.sleep(0.2)


def _leftover_messages(cluster: Cluster, pace: Pace) -> dict[str, int]:
    """Return the queues that do not become empty, with their numbers of messages.

    A webhook that failed twice waits for five minutes; no job of this load waits for so long.
    """
    deadline = time.monotonic() + pace.idle_timeout / 4
    while (left := _waiting(cluster)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def _waiting(cluster: Cluster) -> dict[str, int]:
    return {name: count for name, count in cluster.depths().items() if not _LONG_DELAY.search(name)}


def _kind(document: dict[str, object]) -> str | None:
    error = document.get("error")
    return str(error["kind"]) if isinstance(error, dict) and document.get("status") == "failed" else None


def _expected_starts(submitted: Submitted) -> int:
    return {"well": 1, "kill": 8, "leak": 8}.get(submitted.behave, 2)


def _wrong_ends(
    accepted: list[Submitted], documents: dict[str, dict[str, object]], executions: Executions
) -> list[str]:
    """Return a sentence for each wrong end: the result differs, or the handler did not end it so."""
    found = []
    for one in accepted:
        document = documents[one.nonce]
        status, kind = document.get("status"), _kind(document)
        end = f"{one.job_id} ({one.behave}): {status} {kind or ''}".rstrip()
        if status == "succeeded":
            if document["result"] != {"nonce": one.nonce}:
                found.append(f"{end}: its result is that of another job")
            if not executions.finishes[one.nonce]:
                found.append(f"{end}: no handler finished it")
        elif status == "failed":
            expected = {"raise-always": "exception", "kill": "dead_lettered", "leak": "dead_lettered"}.get(one.behave)
            if kind not in (expected, *INFERRED_KINDS):
                found.append(f"{end}: it had no cause to fail")
        elif status == "canceled":
            found.append(f"{end}: it was never canceled")
    return found
