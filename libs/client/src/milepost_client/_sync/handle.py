# Made from _async/handle.py by 'make contracts': change it there.
"""A job that was handed over: look at it, follow it, wait for its end."""

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from errno import EEXIST
from pathlib import Path
from typing import TypeVar, overload

from pydantic import JsonValue, TypeAdapter

from milepost_client._sync.downloads import save
from milepost_client._sync.view import JobView
from milepost_client._sync.watching import follow
from milepost_client.downloads import within
from milepost_client.errors import JobCanceled, JobFailed
from milepost_contracts.document import JobDocument
from milepost_contracts.states import Status

T = TypeVar("T")


class JobHandle(JobView):
    """One job. `document` is what is known of it; `refresh` asks anew, and costs little when nothing has changed."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.document.status}>"

    @property
    def url(self) -> str:
        return f"{self._transport.base_url}/v1/jobs/{self.id}"

    def refresh(self) -> bool:
        """Ask the gateway how the job is; return whether the document changed.

        Raises:
            MilepostError: The gateway refused or does not answer.
        """
        return self.look(repeat=True)

    def cancel(self) -> JobDocument:
        """Ask that the job be canceled, and return its document; that it took effect, the document says later.

        Raises:
            Refused: It has ended already.
        """
        self._take(self._transport.send("POST", f"/v1/jobs/{self.id}/cancel", repeat=True))
        return self.document

    def retry(self) -> JobDocument:
        """Run an ended job again, with the same id, params and files; return its document.

        Raises:
            Refused: It has not ended yet, or has run as often as a job can.
        """
        self._take(self._transport.send("POST", f"/v1/jobs/{self.id}/retry"))
        return self.document

    def watch(self, timeout: float | None = None) -> Generator[JobDocument, None]:
        """Yield the document now and whenever it changes, until the job has ended.

        What happens comes as a stream of events, which is resumed where it broke off; where there is none, and with
        a `timeout`, the gateway is asked to hold its answers back until there is something new. Bears half a minute
        without an answer.

        Args:
            timeout: After so many seconds it is enough.

        Raises:
            StillRunning: The job has not ended within `timeout` seconds.
            Unavailable: The gateway has not answered for half a minute.
        """
        yield self.document
        with closing(follow(self._transport, [self], timeout=timeout)) as changes:
            for _ in changes:
                yield self.document

    def wait(self, timeout: float | None = None) -> JobDocument:
        """Return the document of the ended job, however it ended.

        Raises:
            StillRunning: It has not ended within `timeout` seconds.
            Unavailable: The gateway has not answered for half a minute.
        """
        with closing(follow(self._transport, [self], timeout=timeout, to_end=True)) as changes:
            for _ in changes:
                pass
        return self.document

    @overload
    def result(self, *, timeout: float | None = None) -> JsonValue: ...

    @overload
    def result(self, kind: type[T], *, timeout: float | None = None) -> T: ...

    def result(self, kind: type[T] | None = None, *, timeout: float | None = None) -> T | JsonValue:
        """Wait for the job and return its result.

        Args:
            kind: What it is to be read as: a pydantic model, a dataclass, `list[int]`, …; a JSON value by default.
            timeout: After so many seconds it is enough.

        Raises:
            JobFailed, JobCanceled: It ended without one.
            StillRunning: It has not ended within `timeout` seconds.
            ValueError: It is a file that is no JSON, or does not fit `kind`.
        """
        document = self.wait(timeout)
        if document.status is Status.FAILED:
            raise JobFailed(document)
        if document.status is Status.CANCELED:
            raise JobCanceled(document)
        found = document.result
        if document.result_file is not None:
            if document.result_file.media_type != "application/json":
                raise ValueError(f"the result is {document.result_file.media_type}: take it with download()")
            found = (self._transport.send("GET", f"/v1/jobs/{self.id}/result")).json()
        return found if kind is None else TypeAdapter(kind).validate_json(json.dumps(found))

    def result_bytes(self) -> Generator[bytes, None]:
        """Yield the result of a job that has succeeded piece by piece, as it is: JSON, or the file that it is.

        Raises:
            Refused: It has none.
        """
        with self._transport.stream(f"/v1/jobs/{self.id}/result") as response:
            for piece in response.iter_bytes():
                yield piece

    def download(self, folder: Path, *, names: Sequence[str] = (), replace: bool = False) -> Generator[Path, None]:
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
