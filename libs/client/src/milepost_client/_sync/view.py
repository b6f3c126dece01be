# Made from _async/view.py by 'make contracts': change it there.
"""The last known document of one job, and how it is updated."""

from time import monotonic

import httpx

from milepost_client._sync.transport import Transport
from milepost_client.answers import document_after, retry_after
from milepost_contracts.messages.job_events import JobEvent
from milepost_contracts.status.document import JobDocument

UNSEEN_ETAG = 'W/"0"'
"""The ETag of a document that no tracker has seen yet."""
MIN_POLL_INTERVAL = 0.2
"""Minimum seconds between two long polls."""


class JobView:
    """The last known document of a job, updated by conditional requests and by events."""

    def __init__(self, transport: Transport, response: httpx.Response) -> None:
        self._transport = transport
        self.document, self._etag = _read(response)
        #: When to poll next, in monotonic seconds.
        self.poll_at = monotonic() + retry_after(response)

    @property
    def id(self) -> str:
        return self.document.id

    @property
    def stream_version(self) -> int:
        """The version after which to stream events; 0 (all events) while no tracker has seen the job's next run."""
        return 0 if self._etag == UNSEEN_ETAG else self.document.version

    def _update(self, response: httpx.Response) -> bool:
        """Replace the document by that of a response; return whether this was done.

        It is not done if the response is of an earlier run: no tracker has seen the accepted retry yet.
        """
        document, etag = _read(response)
        self.poll_at = monotonic() + retry_after(response)
        if document.run < self.document.run:
            return False
        self.document, self._etag = document, etag
        return True

    def apply_event(self, event: JobEvent, version: int) -> bool:
        """Apply an event to the document; return whether it is newer than the document."""
        if version <= self.document.version:
            return False
        self.document = document_after(self.document, event, version)
        self._etag = f'"{version}"'
        return True

    def poll(
        self, *, wait: float = 0.0, to_end: bool = False, retry: bool = False, max_time: float | None = None
    ) -> bool:
        """Poll the gateway once; return whether the document changed.

        Args:
            wait: Seconds that the gateway may wait for a change (`Prefer: wait`); it may ignore this.
            to_end: Wait for the job's end instead of its next change.
            retry: Whether to retry as for any other request.
            max_time: Seconds that the response may take.

        Raises:
            MilepostError: The gateway refused the request, or does not answer.
        """
        headers = {"If-None-Match": self._etag} if self._etag and not to_end else {}
        if int(wait) and (self._etag or to_end):
            headers["Prefer"] = f"wait={int(wait)}"
        path = f"/v1/jobs/{self.id}"
        response = self._transport.send("GET", path, retry=retry, headers=headers, extra_time=wait, max_time=max_time)
        known = self.document.version
        updated = bool(response.content) and self._update(response)
        waited = "preference-applied" in response.headers
        self.poll_at = monotonic() + (MIN_POLL_INTERVAL if waited else retry_after(response))
        return updated and not (to_end and self.document.version == known)


def _read(response: httpx.Response) -> tuple[JobDocument, str | None]:
    return JobDocument.model_validate_json(response.content), response.headers.get("etag")
