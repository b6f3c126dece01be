"""Handle of a submitted job: refresh, watch, wait, cancel, retry, read its result."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from errno import EEXIST
from pathlib import Path
from typing import TypeVar, overload

from pydantic import JsonValue, TypeAdapter

from milepost_client._async.downloads import save
from milepost_client._async.view import AsyncJobView
from milepost_client._async.watching import watch_jobs
from milepost_client.arguments import Duration, seconds, several
from milepost_client.downloads import target_path
from milepost_client.errors import JobCanceled, JobFailed
from milepost_contracts.states import Status
from milepost_contracts.status.document import JobDocument

T = TypeVar("T")


class AsyncJobHandle(AsyncJobView):
    """Handle of one job. `document` is its last known state; `refresh` updates it with a conditional request."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.document.status}>"

    @property
    def url(self) -> str:
        return f"{self._transport.base_url}/v1/jobs/{self.id}"

    async def refresh(self) -> bool:
        """Update the document from the gateway; return whether it changed.

        Raises:
            JobNotFound: The job was deleted, or is past its retention.
            Refused: The gateway refused the request.
            Unavailable: The gateway can't be reached, or can't answer now.
        """
        return await self.poll(retry=True)

    async def cancel(self) -> JobDocument:
        """Request that the job be canceled; return its document, which shows later when and how it took effect.

        Raises:
            Refused: The job has already ended.
        """
        self._update(await self._transport.send("POST", f"/v1/jobs/{self.id}/cancel", retry=True))
        return self.document

    async def retry(self) -> JobDocument:
        """Run the ended job again with the same id, params and files; return its document.

        Raises:
            Refused: The job has not ended, or has reached the maximum number of runs.
        """
        self._update(await self._transport.send("POST", f"/v1/jobs/{self.id}/retry"))
        return self.document

    async def watch(self, timeout: Duration | None = None) -> AsyncGenerator[JobDocument, None]:
        """Yield the document now and whenever it changes, until the job has ended.

        Changes come over an event stream, which is resumed after its last event when the connection breaks. With a
        `timeout`, or if no stream is available, the gateway is long-polled instead (`Prefer: wait`).

        Args:
            timeout: How long to wait: a `timedelta`, or seconds; unlimited by default.

        Raises:
            StillRunning: The job has not ended within `timeout`.
            Unavailable: The gateway has not answered for 30 seconds.
        """
        limit = None if timeout is None else seconds("timeout", timeout)
        yield self.document
        async with aclosing(watch_jobs(self._transport, [self], timeout=limit)) as changes:
            async for _ in changes:
                yield self.document

    async def wait(self, timeout: Duration | None = None) -> JobDocument:
        """Wait until the job has ended, in whatever state, and return its document.

        Args:
            timeout: How long to wait: a `timedelta`, or seconds; unlimited by default.

        Raises:
            StillRunning: The job has not ended within `timeout`.
            Unavailable: The gateway has not answered for 30 seconds.
        """
        limit = None if timeout is None else seconds("timeout", timeout)
        async with aclosing(watch_jobs(self._transport, [self], timeout=limit, to_end=True)) as changes:
            async for _ in changes:
                pass
        return self.document

    @overload
    async def result(self, *, timeout: Duration | None = None) -> JsonValue: ...

    @overload
    async def result(self, kind: type[T], *, timeout: Duration | None = None) -> T: ...

    async def result(self, kind: type[T] | None = None, *, timeout: Duration | None = None) -> T | JsonValue:
        """Wait for the job and return its result.

        Args:
            kind: Type to validate the result as: a pydantic model, a dataclass, `list[int]`, …; plain JSON by default.
            timeout: How long to wait: a `timedelta`, or seconds; unlimited by default.

        Raises:
            JobFailed, JobCanceled: The job ended without a result.
            StillRunning: The job has not ended within `timeout`.
            ValueError: The result is a file that is not JSON, or is not valid for `kind`.
        """
        document = await self.wait(timeout)
        if document.status is Status.FAILED:
            raise JobFailed(document)
        if document.status is Status.CANCELED:
            raise JobCanceled(document)
        found = document.result
        if document.result_file is not None:
            if document.result_file.media_type != "application/json":
                raise ValueError(f"The result is a file of type {document.result_file.media_type}. Use download().")
            found = (await self._transport.send("GET", f"/v1/jobs/{self.id}/result")).json()
        return found if kind is None else TypeAdapter(kind).validate_json(json.dumps(found))

    async def result_bytes(self) -> AsyncGenerator[bytes, None]:
        """Yield the result of a succeeded job in chunks of bytes: JSON, or the content of the result file.

        Raises:
            Refused: The job has no result.
        """
        async with self._transport.stream(f"/v1/jobs/{self.id}/result") as response:
            async for piece in response.aiter_bytes():
                yield piece

    async def download(
        self, folder: Path, *, names: Sequence[str] = (), replace: bool = False
    ) -> AsyncGenerator[Path, None]:
        """Save the job's output files, and its result file if it has one, in a folder; yield the path of each.

        Args:
            folder: Target folder; created if it does not exist.
            names: Only these files; all by default.
            replace: Whether to replace existing files.

        Raises:
            TypeError: `names` is a single text.
            KeyError: The job has no file of this name.
            FileExistsError: A file exists already; nothing is saved.
            DownloadError: The digest of a file does not match, or its name is outside the folder.
        """
        found = {output.name: (output.url, output.digest) for output in self.document.outputs}
        if (result := self.document.result_file) is not None:
            found.setdefault(result.name, (f"/v1/jobs/{self.id}/result", result.digest))
        for name in several("names", names):
            if name not in found:
                raise KeyError(name)
        wanted = {name: target_path(folder, name) for name in names or found}
        for path in wanted.values():
            if path.exists() and not replace:
                raise FileExistsError(EEXIST, "The file exists already", str(path))
        for name, path in wanted.items():
            yield await save(self._transport, *found[name], path)
