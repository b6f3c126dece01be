"""The invariants: what must hold of the ledger, the handlers' records, the webhooks and the queues after a fault."""

import re
import time
from dataclasses import dataclass

import httpx

from fault_suite.cluster import Cluster
from fault_suite.executions import Executions
from fault_suite.fault import Fault, Pace
from fault_suite.ledger import ENDED, Ledger, Submitted
from fault_suite.load import ANSWER_TIMEOUT, MAX_ANSWER_TIMEOUT, Load
from fault_suite.proof import Proof
from fault_suite.readers import TIMEOUT
from fault_suite.receiver import Receiver
from fault_suite.report import Row

INFERRED_KINDS = ("lost", "expired")
"""Error kinds that the tracker infers: the job was not started in time, or no further event of it arrived."""
GONE = "gone"
"""The status of a job of which only 410 is known."""
EXAMPLES = 3
"""How many sentences of one kind are reported."""

_LONG_DELAY = re.compile(r"\.level\.(0[89]|[12][0-9])$")
"""The delay levels from 256 s on."""


@dataclass(frozen=True)
class Expected:
    """How the jobs of a behaviour end, and how often their handler starts."""

    ends: tuple[str, ...]
    starts: int = 1


_KILLS_ITS_WORKER = Expected(("failed dead_lettered",), starts=8)
EXPECTED = {
    "raise-once": Expected(("succeeded",), starts=2),
    "raise-always": Expected(("failed exception",), starts=2),
    "later": Expected(("succeeded",), starts=2),
    "kill": _KILLS_ITS_WORKER,
    "leak": _KILLS_ITS_WORKER,
    "stop-loop": _KILLS_ITS_WORKER,
}
"""All other behaviours succeed at once."""
ENDS_OF_CANCELED = ("canceled", "succeeded", "failed exception")
"""A cancel takes effect, or comes too late."""

Documents = dict[str, dict[str, object]]
"""The last document of each job, by nonce."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a fault, as it left everything."""

    fault: Fault
    cluster: Cluster
    pace: Pace
    ledger: Ledger
    load: Load
    receiver: Receiver


def judge(run: Run, proof: Proof | None, *, recovery: float | None, seed: int, begun_at: int) -> Row:
    """Wait until everything has ended, and check the invariants.

    Args:
        run: The run.
        proof: That the fault took hold; None if it did not.
        recovery: Seconds until a new job succeeded after the fault; None if none did.
        seed: The seed of the load.
        begun_at: Where the handlers' records of this run begin in their file.
    """
    ledger, load, fault = run.ledger, run.load, run.fault
    documents = _final(run)
    executions = Executions.read(run.cluster.ledger, begun_at)
    accepted = ledger.accepted
    stuck = [one for one in accepted if documents[one.nonce].get("status") not in (*ENDED, GONE)]
    lost = [one for one in accepted if _kind(documents[one.nonce]) in INFERRED_KINDS]
    missing_webhooks = _missing_webhooks(run, documents)
    contradictions = [
        *ledger.contradictions,
        *_wrong_ends(ledger, documents, executions),
        *_gone_early(ledger, executions, fault.retention or 0),
        *([] if fault.may_lose else run.receiver.contradictions()),
    ]
    unexpected = {nonce for nonce in executions.starts if load.is_of_this_load(nonce)} - set(ledger.submitted)
    extra_runs = sum(max(0, executions.starts[one.nonce] - _expected(one).starts) for one in accepted)
    violations = []
    if stuck:
        violations.append(f"{len(stuck)} jobs did not end, for example {stuck[0].job_id}: {documents[stuck[0].nonce]}")
    if lost and not fault.may_lose:
        violations.append(f"{len(lost)} jobs ended as lost, for example {lost[0].job_id}")
    if proof and proof.destroyed not in (None, len(lost)):
        violations.append(f"{proof.destroyed} jobs were destroyed, and {len(lost)} ended as lost")
    violations += contradictions[:EXAMPLES]
    if missing_webhooks and not fault.may_miss_webhooks:
        violations.append(f"{len(missing_webhooks)} webhooks are missing, for example of {missing_webhooks[0].job_id}")
    if unexpected:
        violations.append(f"{len(unexpected)} jobs ran that were never submitted")
    if extra_runs > fault.max_extra_runs:
        violations.append(f"{extra_runs} executions more than expected; {fault.max_extra_runs} are allowed")
    violations += [*_idle_readers(run), *_slow_answers(run, recovery)]
    left = _leftover_messages(run)
    if left:
        violations.append(f"queues are not empty: {left}")
    refused = [one for one in ledger.submitted.values() if not one.accepted]
    if fault.max_refused is not None and len(refused) > fault.max_refused:
        violations.append(f"{len(refused)} submissions were refused; {fault.max_refused} are allowed")
    return Row(
        fault=fault.name,
        seed=seed,
        proof="nothing: vacuous" if proof is None else str(proof),
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


def _idle_readers(run: Run) -> list[str]:
    """Return a sentence for each kind of reader that read nothing: it would find no contradiction."""
    found = [] if run.ledger.streamed else ["no event was read from a stream"]
    if run.pace.lenience == 1 and not run.load.readers.polled_hot:
        found.append("no job was polled often enough for the hot cache")
    return found


def _slow_answers(run: Run, recovery: float | None) -> list[str]:
    fault, lenience, found = run.fault, run.pace.lenience, []
    allowed = min(lenience * ANSWER_TIMEOUT, MAX_ANSWER_TIMEOUT)
    late = [seconds for seconds in run.load.answer_times if seconds > allowed]
    if late and not fault.may_be_late:
        found.append(f"{len(late)} submissions were answered late, after up to {max(late):.1f} s (inf: never)")
    recovers_within = lenience * fault.recovers_within
    if recovery is None or recovery > recovers_within:
        found.append(f"recovered after {recovery} s; {recovers_within} s are allowed")
    if fault.max_gap is not None and run.ledger.longest_gap > lenience * fault.max_gap:
        found.append(f"no job was accepted for {run.ledger.longest_gap:.1f} s; {fault.max_gap} s are allowed")
    return found


def _final(run: Run) -> Documents:
    """Wait until every job has ended, and return the documents, also of jobs that have not ended in time."""
    deadline = time.monotonic() + run.pace.idle_timeout
    waiting = {one.nonce: one for one in run.ledger.accepted}
    documents: Documents = {nonce: {} for nonce in waiting}
    urls = run.cluster.urls()
    with httpx.Client(timeout=TIMEOUT) as http:
        while waiting and time.monotonic() < deadline:
            for nonce, submitted in list(waiting.items()):
                document = run.load.get(http, submitted, urls[len(waiting) % len(urls)])
                if submitted.job_id in run.ledger.gone:
                    _, document = run.ledger.ends.get(submitted.job_id, (0, {"status": GONE}))
                if document is not None:
                    documents[nonce] = document
                    if document["status"] in (*ENDED, GONE):
                        del waiting[nonce]
            time.sleep(0.2)
    return documents


def _missing_webhooks(run: Run, documents: Documents) -> list[Submitted]:
    """Wait for the webhooks of all ends; return the jobs whose webhook is missing."""
    deadline = time.monotonic() + run.pace.idle_timeout / 4
    missing = [one for one in run.ledger.accepted if one.has_callback and one.job_id]
    while True:
        missing = [one for one in missing if not _has_webhook(run.receiver, one, documents[one.nonce].get("status"))]
        if not missing or time.monotonic() > deadline:
            return missing
        time.sleep(0.2)


def _has_webhook(receiver: Receiver, submitted: Submitted, status: object) -> bool:
    ends = receiver.ends_of(str(submitted.job_id))
    return bool(ends) if status == GONE else status in ends


def _leftover_messages(run: Run) -> dict[str, int]:
    """Return the queues that do not become empty, with their numbers of messages.

    A webhook that failed twice waits for five minutes; no job of this load waits for so long.
    """
    deadline = time.monotonic() + run.pace.idle_timeout / 4
    while (left := _waiting(run.cluster)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def _waiting(cluster: Cluster) -> dict[str, int]:
    return {name: count for name, count in cluster.depths().items() if not _LONG_DELAY.search(name)}


def _kind(document: dict[str, object]) -> str | None:
    error = document.get("error")
    return str(error["kind"]) if isinstance(error, dict) and document.get("status") == "failed" else None


def _expected(submitted: Submitted) -> Expected:
    return EXPECTED.get(submitted.behave, Expected(("succeeded",)))


def _wrong_ends(ledger: Ledger, documents: Documents, executions: Executions) -> list[str]:
    """Return a sentence for each wrong end: the handler did not end it so, or ran after its cancel was told."""
    found = []
    for one in ledger.accepted:
        document = documents[one.nonce]
        status, kind = document.get("status"), _kind(document)
        end = f"{status} {kind or ''}".rstrip()
        allowed = (*_expected(one).ends, *(ENDS_OF_CANCELED if one.job_id in ledger.cancels else ()))
        if status not in ENDED or kind in INFERRED_KINDS:
            continue  # counted as stuck or lost
        if end not in allowed:
            problem = f"it must be {' or '.join(allowed)}"
        elif status == "succeeded" and document["result"] != {"nonce": one.nonce}:
            problem = "its result is that of another job"
        elif status == "succeeded" and not executions.finishes[one.nonce]:
            problem = "no handler finished it"
        elif status == "canceled" and _started_after(ledger, one, executions):
            problem = "its handler started after readers were told of the cancel"
        elif executions.starts[one.nonce] == 1 and executions.last_at[one.nonce] > ledger.ends[str(one.job_id)][0]:
            problem = "its only execution went on after readers were told of its end"
        else:
            continue
        found.append(f"{one.job_id} ({one.behave}): {end}: {problem}")
    return found


def _gone_early(ledger: Ledger, executions: Executions, retention: float) -> list[str]:
    """Return a sentence for each job that was answered 410 before it had ended for as long as ended jobs are kept."""
    found = []
    for one in ledger.accepted:
        gone_at = ledger.gone.get(str(one.job_id))
        last_at = max(executions.last_at.get(one.nonce, 0), ledger.cancels.get(str(one.job_id), 0))
        if gone_at is not None and (not last_at or gone_at < last_at + retention):
            found.append(f"{one.job_id}: 410 at {gone_at}, and what was last heard of it was at {last_at}")
    return found


def _started_after(ledger: Ledger, submitted: Submitted, executions: Executions) -> bool:
    """Return whether a handler started after a reader had seen the job's end."""
    told_at, _ = ledger.ends[str(submitted.job_id)]
    return any(at > told_at for at in executions.started_at[submitted.nonce])
