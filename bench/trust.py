"""What it costs a tracker to decode an event, and to check whether to believe it: microseconds an event.

python bench/trust.py
"""

import time
from collections.abc import Callable

from milepost_contracts.clock import now
from milepost_contracts.grants import granted
from milepost_contracts.ids import Keyring
from milepost_contracts.messages.cloudevent import CONTENT_TYPE, encode
from milepost_contracts.messages.job_events import JobStarted, decode_event
from milepost_contracts.messages.received import Received
from milepost_contracts.messages.senders import Senders
from milepost_contracts.messages.trust import Trust
from milepost_contracts.values import Attempt, Job

COUNT, ROUNDS = 2_000, 15


def messages(keyring: Keyring) -> list[Received]:
    """Return the starts of as many jobs."""
    at, made = now(), []
    for number in range(COUNT):
        job = Job(
            id=keyring.issue("default"),
            tenant="default",
            type="digest-files",
            queue="default",
            params={"number": number},
            created_at=at,
            delivery=1,
            attempt=1,
            attempts=(Attempt(number=1, worker="host-1-ab12", started_at=at),),
            execution="0badcafe",
            step=1,
            started_at=at,
        )
        event = JobStarted(job=granted(job, keyring))
        made.append(Received(encode(event), event.routing_key, "milepost-processor", event.subject, CONTENT_TYPE))
    return made


def microseconds(act: Callable[[Received], object], received: list[Received]) -> float:
    """Return the CPU time for one message, in the best of some rounds: other processes disturb the others."""
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        for message in received:
            act(message)
        best = min(best, time.process_time() - begun)
    return best / len(received) * 1e6


def main() -> None:
    """Measure and print."""
    keyring = Keyring.parse("1:" + "ab" * 32)
    senders = Senders(
        gateways=frozenset({"milepost-gateway"}),
        trackers=frozenset({"milepost-tracker"}),
        processors={"milepost-processor": None},
    )
    received, trust = messages(keyring), Trust(senders, keyring)
    decoding = microseconds(lambda message: decode_event(message.body), received)
    believing = microseconds(trust.job_message, received)
    print(f"decode {decoding:.1f} µs, decode and check {believing:.1f} µs an event")


if __name__ == "__main__":
    main()
