"""Milepost's client.

from milepost_client import Client

with Client("http://127.0.0.1:8800") as client:
    handle = client.submit("count", {"steps": 10})
    for document in handle.watch():
        print(document.status, document.progress)

`AsyncClient` does the same with `async with`, `await` and `async for`.
"""

from milepost_client._async.client import AsyncClient
from milepost_client._async.group import AsyncJobGroup
from milepost_client._async.handle import AsyncJobHandle
from milepost_client._sync.client import Client
from milepost_client._sync.group import JobGroup
from milepost_client._sync.handle import JobHandle
from milepost_client.errors import (
    DownloadError,
    InvalidWebhook,
    JobCanceled,
    JobFailed,
    JobNotFound,
    MilepostError,
    PartlySubmitted,
    Refused,
    StillRunning,
    Unavailable,
)
from milepost_client.files import LocalFile, find_files
from milepost_client.submissions import GroupStatus, Refusal, Submission
from milepost_client.webhooks import Webhook, verify_webhook
from milepost_contracts.states import Status
from milepost_contracts.status.document import JobDocument

__all__ = [
    "AsyncClient",
    "AsyncJobGroup",
    "AsyncJobHandle",
    "Client",
    "DownloadError",
    "GroupStatus",
    "InvalidWebhook",
    "JobCanceled",
    "JobDocument",
    "JobFailed",
    "JobGroup",
    "JobHandle",
    "JobNotFound",
    "LocalFile",
    "MilepostError",
    "PartlySubmitted",
    "Refusal",
    "Refused",
    "Status",
    "StillRunning",
    "Submission",
    "Unavailable",
    "Webhook",
    "find_files",
    "verify_webhook",
]
