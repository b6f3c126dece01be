"""Milepost's client.

from milepost_client import Client

with Client("http://127.0.0.1:8800") as client:
    handle = client.submit("count", {"steps": 10})
    for document in handle.watch():
        print(document.status, document.progress)
"""

from milepost_client.client import Client
from milepost_client.errors import (
    Damaged,
    JobCanceled,
    JobFailed,
    JobNotFound,
    MilepostError,
    Refused,
    StillRunning,
    Unavailable,
)
from milepost_client.files import LocalFile, find_files
from milepost_client.handle import JobHandle

__all__ = [
    "Client",
    "Damaged",
    "JobCanceled",
    "JobFailed",
    "JobHandle",
    "JobNotFound",
    "LocalFile",
    "MilepostError",
    "Refused",
    "StillRunning",
    "Unavailable",
    "find_files",
]
