"""The objects that the routes use, set on the app by the composition root."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from fastapi.requests import HTTPConnection

from milepost_gateway.api.requests import BodyLimits
from milepost_gateway.core.authentication import Authentication
from milepost_gateway.core.batches import Batches
from milepost_gateway.core.cancellation import Cancellation
from milepost_gateway.core.dead_letters import DeadLetters
from milepost_gateway.core.deletion import Deletion
from milepost_gateway.core.idempotency import Idempotency
from milepost_gateway.core.job_stream import JobStream
from milepost_gateway.core.job_types import KnownTypes
from milepost_gateway.core.orphaned_files import OrphanedFiles
from milepost_gateway.core.quotas import Quotas
from milepost_gateway.core.retry import Retry
from milepost_gateway.core.status import Statuses
from milepost_gateway.core.submission import Acceptance
from milepost_gateway.core.tag_stream import TagStream
from milepost_gateway.core.webhooks import Webhooks
from milepost_gateway.ports.blob_store import BlobStore
from milepost_gateway.ports.broker import Broker
from milepost_gateway.ports.job_index import JobIndex
from milepost_gateway.ports.status_store import StatusStore


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """The gateway's core, ready to use."""

    authentication: Authentication
    quotas: Quotas
    acceptance: Acceptance
    statuses: Statuses
    cancellation: Cancellation
    job_stream: JobStream
    tag_stream: TagStream
    idempotency: Idempotency
    retry: Retry
    batches: Batches
    deletion: Deletion
    orphaned_files: OrphanedFiles
    dead_letters: DeadLetters
    webhooks: Webhooks
    blob_store: BlobStore
    job_types: KnownTypes
    broker: Broker
    store: StatusStore
    job_index: JobIndex
    limits: BodyLimits
    retention: timedelta
    #: Set when the process is to stop: streams end, and their clients resume at another gateway.
    closing: asyncio.Event


def dependencies(request: HTTPConnection) -> Dependencies:
    """Return the app's dependencies."""
    found: Dependencies = request.scope["app"].state.dependencies
    return found
