"""What the routes work with: put on the app by the composition root."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from fastapi.requests import HTTPConnection

from milepost_gateway.access import Access
from milepost_gateway.admission import Admission
from milepost_gateway.api.requests import Limits
from milepost_gateway.batches import Batches
from milepost_gateway.cancellation import Cancellation
from milepost_gateway.catalogue import Catalogue
from milepost_gateway.dead_letters import DeadLetters
from milepost_gateway.following import Following
from milepost_gateway.forgetting import Forgetting
from milepost_gateway.idempotency import Idempotency
from milepost_gateway.leftovers import Leftovers
from milepost_gateway.ports import Blobs, Broker, StatusStore
from milepost_gateway.reruns import Reruns
from milepost_gateway.status import Statuses
from milepost_gateway.submission import Acceptance
from milepost_gateway.tailing import Tailing
from milepost_gateway.webhooks import Webhooks


@dataclass(frozen=True, kw_only=True)
class Services:
    """The gateway's core, ready to use."""

    access: Access
    admission: Admission
    acceptance: Acceptance
    statuses: Statuses
    cancellation: Cancellation
    following: Following
    tailing: Tailing
    idempotency: Idempotency
    reruns: Reruns
    batches: Batches
    forgetting: Forgetting
    leftovers: Leftovers
    dead_letters: DeadLetters
    webhooks: Webhooks
    blobs: Blobs
    catalogue: Catalogue
    broker: Broker
    store: StatusStore
    limits: Limits
    retention: timedelta
    #: Set once the process is to stop: streams end then, and their readers come back to another one.
    closing: asyncio.Event


def services(request: HTTPConnection) -> Services:
    """Return what the composition root put on the app."""
    found: Services = request.scope["app"].state.services
    return found
