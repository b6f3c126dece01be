"""What the gateway publishes, and what it asks the broker."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from milepost_contracts.messages.job_events import JobEvent, JobRequest, JobScheduled, JobSubmitted
from milepost_rabbit.depth import Depth

#: The commands that submit a job, to run at once or later.
Submitted = JobSubmitted | JobScheduled


class Broker(Protocol):
    """Publishes with confirms: each `publish…` and `submit` returns or raises within 2.5 s.

    They raise `NotAccepted` if the message is certainly not stored, `OutcomeUnknown` if that can't be known.
    """

    async def submit(self, command: Submitted) -> None:
        """Return once every queue that the job must be in has stored it."""

    async def publish_request(self, request: JobRequest) -> None:
        """Return once a request to cancel or delete a job is stored."""

    async def publish_webhook(self, event: JobEvent) -> None:
        """Return once the webhook of this event is stored, to be sent by a tracker."""

    async def depths(self, queues: Sequence[str]) -> Mapping[str, Depth]:
        """Return the depth of each of these queues of job types, of those that exist.

        Raises:
            BrokerUnavailable: The broker does not answer.
        """

    async def answers(self) -> bool:
        """Whether the broker answers now, or answered within the last 2 s."""
