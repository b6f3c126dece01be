"""One run of one fault: load, fault, quiet, and the verdict."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import httpx

from fault_suite.cluster import Cluster
from fault_suite.ledger import ENDED, Executions, Handed, Ledger
from fault_suite.load import ANSWERED_WITHIN, LATEST, TIMEOUT, Load, Mix
from fault_suite.receiver import Receiver, receiving

NOBODY_SPOKE = ("lost", "expired")
"""Kinds of errors that the tracker infers: a job whose message is gone was never started, or never heard of again."""

_LONG_WAIT = re.compile(r"\.delay\.(0[89]|[12][0-9])$")
"""The levels of the delay ladder from 256 s on."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long and how much."""

    #: Jobs handed over a second.
    rate: float
    #: Seconds of load before the fault and after it.
    before: float
    #: Shortens the faults: 1 for the whole length.
    scale: float
    #: How long the slow ones of the jobs take, in milliseconds.
    slow: int
    #: Decides what random faults do.
    seed: int = 1
    #: How many times as long as promised a recovery may take, or an answer. The whole matrix holds both to the
    #: promise; the short form runs beside other tests, and a lack of cores is no fault of ours.
    lenience: float = 1.0
    #: Seconds until all must be quiet after the end of a fault. What waits its time may wait for minutes more: the
    #: worker of RabbitMQ 3.10 that hands it on asks a queue with a new leader up to five times, a minute each.
    quiet_within: float = 330.0

    def seconds(self, whole: float) -> float:
        """Scale the length of a fault."""
        return whole * self.scale

    def times(self, whole: int) -> int:
        """Scale how often something is done, at least twice."""
        return max(2, round(whole * self.scale))


Act = Callable[[Cluster, Pace], int | None]
"""Does the damage; may return how many jobs it destroyed for certain: so many must end as lost, and no others."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A row of the matrix."""

    name: str
    act: Act
    #: Whether it is part of `make test`, in a short form.
    star: bool = False
    #: What the first jobs do.
    first: tuple[str, ...] = ()
    #: Whether a submission may be answered late: the fault is that nobody is there to answer.
    may_be_late: bool = False
    #: Seconds within which all must be well again.
    recovers_within: float = 10.0
    #: Seconds for which no job may be accepted, where that must not last as long as the fault.
    gap_within: float | None = None
    #: How many more executions than expected are allowed.
    doubled_within: int = 0
    #: Whether jobs may end as lost: those that the fault itself destroys.
    may_lose: bool = False
    #: Seconds within which a job must be started, where it is not the usual time.
    expires_in: int | None = None
    #: Whether ends may go untold: those whose events the fault itself keeps from the trackers; the view has the log.
    may_leave_untold: bool = False
    #: Whether no job fails or is slow: one that was retried or put back is waited for longer than a test lasts.
    all_well: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one run of one fault led to."""

    fault: str
    seed: int
    jobs: int
    refused: int
    unknown: int
    lost: int
    stuck: int
    doubled: int
    untold: int
    lies: int
    gap: float
    recovery: float | None
    #: What went wrong, in sentences.
    faults: tuple[str, ...] = field(default=())

    @property
    def held(self) -> bool:
        return not self.faults


def run(fault: Fault, cluster: Cluster, pace: Pace, *, seed: int) -> Row:
    """Run one fault under load and judge what came of it."""
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
        row = _judge(fault, cluster, pace, ledger, load, receiver, recovery=recovery, seed=seed, begun_at=begun_at)
    if destroyed not in (None, row.lost):
        return replace(row, faults=(*row.faults, f"{destroyed} jobs were destroyed, and {row.lost} ended as lost"))
    return row


def _mix(fault: Fault, pace: Pace) -> Mix:
    failing = {"raise_once": 0, "raise_always": 0, "slow": 0} if fault.all_well else {}
    return Mix(slow_takes=pace.slow, **failing)


def _judge(
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
    lost = [one for one in accepted if _kind(documents[one.nonce]) in NOBODY_SPOKE]
    lies = [*ledger.lies, *_contradictions(accepted, documents, executions)]
    untold = _untold(accepted, documents, receiver, within=pace.quiet_within / 4)
    unexpected = {nonce for nonce in executions.starts if load.is_ours(nonce)} - set(ledger.handed)
    doubled = sum(max(0, executions.starts[one.nonce] - _expected_starts(one)) for one in accepted)
    wrong = []
    if stuck:
        wrong.append(f"{len(stuck)} jobs did not end, for example {stuck[0].job_id}: {documents[stuck[0].nonce]}")
    if lost and not fault.may_lose:
        wrong.append(f"{len(lost)} jobs ended as lost, for example {lost[0].job_id}")
    wrong += lies[:3]
    if untold and not fault.may_leave_untold:
        wrong.append(f"{len(untold)} ends were not told, for example of {untold[0].job_id}")
    if unexpected:
        wrong.append(f"{len(unexpected)} jobs ran that nobody handed over")
    if doubled > fault.doubled_within:
        wrong.append(f"{doubled} executions more than expected; {fault.doubled_within} are allowed")
    if pace.lenience == 1 and not load.followed:
        wrong.append("no job was asked for often enough to be told out of memory")
    late = [seconds for seconds in load.took if seconds > min(pace.lenience * ANSWERED_WITHIN, LATEST)]
    if late and not fault.may_be_late:
        wrong.append(f"{len(late)} submissions were answered late, after up to {max(late):.1f} s (inf: never)")
    recovers_within = pace.lenience * fault.recovers_within
    if recovery is None or recovery > recovers_within:
        wrong.append(f"all was well again after {recovery} s; {recovers_within} s are allowed")
    if fault.gap_within is not None and ledger.longest_gap > pace.lenience * fault.gap_within:
        wrong.append(f"no job was accepted for {ledger.longest_gap:.1f} s; {fault.gap_within} s are allowed")
    left = _quiet(cluster, pace)
    if left:
        wrong.append(f"queues are not empty: {left}")
    refused = [one for one in ledger.handed.values() if not one.accepted]
    return Row(
        fault=fault.name,
        seed=seed,
        jobs=len(accepted),
        refused=sum(one.job_id is None for one in refused),
        unknown=sum(one.job_id is not None for one in refused),
        lost=len(lost),
        stuck=len(stuck),
        doubled=doubled,
        untold=len(untold),
        lies=len(lies) + len(unexpected),
        gap=ledger.longest_gap,
        recovery=recovery,
        faults=tuple(wrong),
    )


def _final(cluster: Cluster, pace: Pace, ledger: Ledger, load: Load) -> dict[str, dict[str, object]]:
    """Wait until every job has ended, and return the documents; those that have not ended are as they are then."""
    deadline = time.monotonic() + pace.quiet_within
    waiting = {one.nonce: one for one in ledger.accepted}
    documents: dict[str, dict[str, object]] = {nonce: {} for nonce in waiting}
    urls = cluster.urls()
    with httpx.Client(timeout=TIMEOUT) as http:
        while waiting and time.monotonic() < deadline:
            for nonce, handed in list(waiting.items()):
                document = load.look(http, handed, urls[len(waiting) % len(urls)])
                if document is not None:
                    documents[nonce] = document
                    if document["status"] in ENDED:
                        del waiting[nonce]
            time.sleep(0.2)
    return documents


def _untold(
    accepted: list[Handed], documents: dict[str, dict[str, object]], receiver: Receiver, *, within: float
) -> list[Handed]:
    """Return the jobs whose end the receiver should know and does not, having waited for it."""
    deadline = time.monotonic() + within
    while True:
        untold = [
            one
            for one in accepted
            if one.calls_back and one.job_id and documents[one.nonce].get("status") not in receiver.ends[one.job_id]
        ]
        if not untold or time.monotonic() > deadline:
            return untold
        time.sleep(0.2)


def _quiet(cluster: Cluster, pace: Pace) -> dict[str, int]:
    """Return what lies in queues and should not.

    A webhook that was not taken twice waits for five minutes; no job of this load waits for so long.
    """
    deadline = time.monotonic() + pace.quiet_within / 4
    while (left := _waiting(cluster)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def _waiting(cluster: Cluster) -> dict[str, int]:
    return {name: count for name, count in cluster.depths().items() if not _LONG_WAIT.search(name)}


def _kind(document: dict[str, object]) -> str | None:
    error = document.get("error")
    return str(error["kind"]) if isinstance(error, dict) and document.get("status") == "failed" else None


def _expected_starts(handed: Handed) -> int:
    return {"well": 1, "kill": 8, "leak": 8}.get(handed.behave, 2)


def _contradictions(
    accepted: list[Handed], documents: dict[str, dict[str, object]], executions: Executions
) -> list[str]:
    """Where the end that is told is not the end that was: the result differs, or nobody ever did the work."""
    found = []
    for one in accepted:
        document = documents[one.nonce]
        status, kind = document.get("status"), _kind(document)
        told = f"{one.job_id} ({one.behave}): {status} {kind or ''}".rstrip()
        if status == "succeeded":
            if document["result"] != {"nonce": one.nonce}:
                found.append(f"{told}: its result is another's")
            if not executions.finishes[one.nonce]:
                found.append(f"{told}: no handler finished it")
        elif status == "failed":
            expected = {"raise-always": "exception", "kill": "dead_lettered", "leak": "dead_lettered"}.get(one.behave)
            if kind not in (expected, *NOBODY_SPOKE):
                found.append(f"{told}: it had no reason to fail")
        elif status == "canceled":
            found.append(f"{told}: nobody asked for it")
    return found
