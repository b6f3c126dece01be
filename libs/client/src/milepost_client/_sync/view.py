# Made from _async/view.py by 'make contracts': change it there.
"""What is known of one job, and a look for what is new."""

from time import monotonic

import httpx

from milepost_client._sync.transport import Transport
from milepost_client.answers import document_after, retry_after
from milepost_contracts.document import JobDocument
from milepost_contracts.events import JobEvent

UNSEEN = 'W/"0"'
"""The ETag of an answer that tells of what no tracker has seen yet."""
PACE = 0.2
"""Seconds between two looks that are to wait for a change, however much happens."""


class JobView:
    """`document` is what is known of a job; a look costs little when nothing has changed."""

    def __init__(self, transport: Transport, response: httpx.Response) -> None:
        self._transport = transport
        self.document, self._etag = _read(response)
        #: When another look is worth it, in monotonic seconds.
        self.look_again_at = monotonic() + retry_after(response)

    @property
    def id(self) -> str:
        return self.document.id

    @property
    def heard_up_to(self) -> int:
        """The version after which a stream is to tell; all of a job whose next run no tracker has seen yet."""
        return 0 if self._etag == UNSEEN else self.document.version

    def _take(self, response: httpx.Response) -> bool:
        """Take in an answer, and return whether that was done.

        It is not if it tells of a run before the one that was accepted last, which no tracker has seen yet.
        """
        document, etag = _read(response)
        self.look_again_at = monotonic() + retry_after(response)
        if document.run < self.document.run:
            return False
        self.document, self._etag = document, etag
        return True

    def heard(self, event: JobEvent, version: int) -> bool:
        """Take in what happened; return whether it was news."""
        if version <= self.document.version:
            return False
        self.document = document_after(self.document, event, version)
        self._etag = f'"{version}"'
        return True

    def look(
        self, *, wait: float = 0.0, to_end: bool = False, repeat: bool = False, at_most: float | None = None
    ) -> bool:
        """Ask the gateway once; return whether the document changed.

        Args:
            wait: Up to so many seconds the gateway may wait for a change; it may not know how to.
            to_end: It is to wait for the job's end instead.
            repeat: Whether to be as patient as one is with any other request.
            at_most: How many seconds the answer may take.

        Raises:
            MilepostError: The gateway refused or does not answer.
        """
        headers = {"If-None-Match": self._etag} if self._etag and not to_end else {}
        if int(wait) and (self._etag or to_end):
            headers["Prefer"] = f"wait={int(wait)}"
        path = f"/v1/jobs/{self.id}"
        response = self._transport.send("GET", path, repeat=repeat, headers=headers, extra_time=wait, at_most=at_most)
        known = self.document.version
        taken = bool(response.content) and self._take(response)
        waited = "preference-applied" in response.headers
        self.look_again_at = monotonic() + (PACE if waited else retry_after(response))
        return taken and not (to_end and self.document.version == known)


def _read(response: httpx.Response) -> tuple[JobDocument, str | None]:
    return JobDocument.model_validate_json(response.content), response.headers.get("etag")
