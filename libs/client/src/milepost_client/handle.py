"""A job that was handed over: look at it, follow it, wait for its end."""

import time
from collections.abc import Iterator, Sequence
from errno import EEXIST
from pathlib import Path

from pydantic import JsonValue

from milepost_client.downloads import save, within
from milepost_client.errors import JobCanceled, JobFailed, StillRunning, Unavailable
from milepost_client.transport import Transport, retry_after
from milepost_contracts.document import JobDocument
from milepost_contracts.states import Status

LONGEST_WAIT = 20.0
"""Seconds for which the gateway is asked to wait for a change."""
PACE = 0.2
"""Seconds between two looks of `watch`, however much happens."""
PATIENCE = 30.0
"""Seconds for which `watch` bears a gateway that does not answer."""


class JobHandle:
    """One job. `document` is what is known of it; `refresh` asks anew, and costs little when nothing has changed."""

    def __init__(self, transport: Transport, document: JobDocument, *, etag: str | None, look_again_in: float) -> None:
        self._transport = transport
        self.document = document
        self._etag = etag
        self._look_again_at = time.monotonic() + look_again_in

    @property
    def id(self) -> str:
        return self.document.id

    @property
    def url(self) -> str:
        return f"{self._transport.base_url}/v1/jobs/{self.id}"

    def refresh(self, *, wait: float = 0.0) -> bool:
        """Ask the gateway once; return whether the document changed.

        Args:
            wait: Up to so many seconds the gateway may wait for a change; it may not know how to.

        Raises:
            MilepostError: The gateway refused or does not answer.
        """
        headers = {"If-None-Match": self._etag} if self._etag else {}
        if self._etag and int(wait):
            headers["Prefer"] = f"wait={int(wait)}"
        response = self._transport.send("GET", f"/v1/jobs/{self.id}", headers=headers, extra_time=wait)
        waited = "preference-applied" in response.headers
        self._look_again_at = time.monotonic() + (PACE if waited else retry_after(response))
        if not response.content:
            return False
        self._etag = response.headers.get("etag")
        self.document = JobDocument.model_validate_json(response.content)
        return True

    def cancel(self) -> JobDocument:
        """Ask that the job be canceled, and return its document; that it took effect, the document says later.

        Raises:
            Refused: It has ended already.
        """
        response = self._transport.send("POST", f"/v1/jobs/{self.id}/cancel")
        self._etag = response.headers.get("etag")
        self.document = JobDocument.model_validate_json(response.content)
        return self.document

    def watch(self, timeout: float | None = None) -> Iterator[JobDocument]:
        """Yield the document now and whenever it changes, until the job has ended.

        The gateway holds its answers back until there is something new. Bears half a minute without an answer.

        Raises:
            StillRunning: The job has not ended within `timeout` seconds.
            Unavailable: The gateway has not answered for half a minute.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        answered = time.monotonic()
        yield self.document
        self._look_again_at = answered
        while not self.document.status.terminal:
            if deadline is not None and time.monotonic() >= deadline:
                raise StillRunning(f"job {self.id} is {self.document.status} after {timeout} s")
            self._pause_until(deadline)
            try:
                left = LONGEST_WAIT if deadline is None else deadline - time.monotonic()
                changed = self.refresh(wait=min(LONGEST_WAIT, max(0.0, left)))
            except Unavailable as error:
                if time.monotonic() - answered > PATIENCE:
                    raise
                self._look_again_at = time.monotonic() + error.retry_after
                continue
            answered = time.monotonic()
            if changed:
                yield self.document

    def _pause_until(self, deadline: float | None) -> None:
        """Sleep until the gateway wants to be asked again: not at all, if that was long ago."""
        moment = self._look_again_at if deadline is None else min(self._look_again_at, deadline)
        time.sleep(max(0.0, moment - time.monotonic()))

    def wait(self, timeout: float | None = None) -> JobDocument:
        """Return the document of the ended job, however it ended.

        Raises:
            StillRunning: It has not ended within `timeout` seconds.
        """
        for _ in self.watch(timeout):
            pass
        return self.document

    def result(self, timeout: float | None = None) -> JsonValue:
        """Wait for the job and return its result.

        Raises:
            JobFailed, JobCanceled: It ended without one.
            StillRunning: It has not ended within `timeout` seconds.
            ValueError: It is a file that is no JSON.
        """
        document = self.wait(timeout)
        if document.status is Status.FAILED:
            raise JobFailed(document)
        if document.status is Status.CANCELED:
            raise JobCanceled(document)
        if document.result_file is None:
            return document.result
        if document.result_file.media_type != "application/json":
            raise ValueError(f"the result is {document.result_file.media_type}: take it with download()")
        content: JsonValue = self._transport.send("GET", f"/v1/jobs/{self.id}/result").json()
        return content

    def download(self, folder: Path, *, names: Sequence[str] = (), replace: bool = False) -> Iterator[Path]:
        """Save what the handler wrote, and a result that is a file, in a folder; yield each path once it is whole.

        Args:
            folder: Where to; made, if need be.
            names: Only these; all by default.
            replace: Whether to replace files that are there.

        Raises:
            KeyError: There is no file of such a name.
            FileExistsError: Something is there already; nothing is saved.
            Damaged: What came is not what the handler wrote.
        """
        found = {output.name: (output.url, output.digest) for output in self.document.outputs}
        if (result := self.document.result_file) is not None:
            found.setdefault(result.name, (f"/v1/jobs/{self.id}/result", result.digest))
        for name in names:
            if name not in found:
                raise KeyError(name)
        wanted = {name: within(folder, name) for name in names or found}
        for path in wanted.values():
            if path.exists() and not replace:
                raise FileExistsError(EEXIST, "it is there already", str(path))
        for name, path in wanted.items():
            yield save(self._transport, *found[name], path)
