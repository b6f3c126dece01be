"""Who may state which fact (law 11): the RabbitMQ user of a message, which the broker has verified → role → facts."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from milepost_contracts.errors import RefusedMessage
from milepost_contracts.messages.job_events import (
    JOB_MESSAGES,
    CancelRequested,
    JobCanceled,
    JobDeleted,
    JobFailed,
    JobInterrupted,
    JobPostponed,
    JobProgressed,
    JobRetrying,
    JobScheduled,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.messages.topology import WEBHOOK_KEY
from milepost_contracts.messages.worker_events import ProcessorAnnounced, ProcessorHeartbeat, ProcessorStopped


class Role(StrEnum):
    """What a service is, by the user with which it connects to RabbitMQ."""

    GATEWAY = "gateway"
    TRACKER = "tracker"
    PROCESSOR = "processor"


FACTS: Mapping[Role, frozenset[str]] = {
    Role.GATEWAY: frozenset(
        {JobSubmitted.fact, JobScheduled.fact, CancelRequested.fact, JobDeleted.fact, WEBHOOK_KEY},
    ),
    # It infers ends, quarantines jobs, and publishes again what had no queue.
    Role.TRACKER: frozenset({*(one.fact for one in JOB_MESSAGES), WEBHOOK_KEY}),
    Role.PROCESSOR: frozenset(
        {
            *(JobStarted.fact, JobProgressed.fact, JobSucceeded.fact, JobFailed.fact, JobCanceled.fact),
            *(JobRetrying.fact, JobInterrupted.fact, JobPostponed.fact),
            *(ProcessorAnnounced.fact, ProcessorHeartbeat.fact, ProcessorStopped.fact),
        }
    ),
}
"""The facts that each role may state; `webhook.send` stands for a webhook that is to be sent."""


@dataclass(frozen=True, kw_only=True)
class Senders:
    """The RabbitMQ users of one deployment. A user may have several roles."""

    gateways: frozenset[str]
    trackers: frozenset[str]
    #: The queues that each may serve; `None` for all.
    processors: Mapping[str, frozenset[str] | None]

    def roles(self, user: str | None) -> list[Role]:
        """Return the roles of a user; none if it is not one of Milepost's."""
        users = ((Role.GATEWAY, self.gateways), (Role.TRACKER, self.trackers), (Role.PROCESSOR, self.processors))
        return [role for role, names in users if user in names]

    def check(self, user: str | None, fact: str, *, queues: AbstractSet[str]) -> None:
        """Return if the user may state this fact about these queues.

        Raises:
            RefusedMessage: It may not.
        """
        if user is None:
            raise RefusedMessage("it has no user_id")
        may = [role for role in self.roles(user) if fact in FACTS[role]]
        if not may:
            raise RefusedMessage(f"the user {user[:100]!r} may not state {fact}")
        if may == [Role.PROCESSOR] and (others := queues - self.served(user, queues)):
            raise RefusedMessage(f"the user {user[:100]!r} may not serve the queue {min(others)[:100]}")

    def serves_all(self, user: str | None) -> bool:
        """Whether a processor with this user may serve every queue."""
        return self.processors.get(user or "", frozenset()) is None

    def instance_prefix(self, user: str | None) -> str:
        """Return how the names of this user's processors begin: one that is limited to queues speaks for no other."""
        return "" if self.serves_all(user) else f"{user}:"

    def served(self, user: str | None, queues: AbstractSet[str]) -> AbstractSet[str]:
        """Return those of these queues that a processor with this user may serve."""
        allowed = self.processors.get(user or "", frozenset())
        return queues if allowed is None else queues & allowed
