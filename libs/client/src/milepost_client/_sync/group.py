# Made from _async/group.py by 'make contracts': change it there.
"""Many jobs that were handed over together: how far they are, and what became of each."""

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from time import monotonic, sleep

from milepost_client._sync.listing import jobs
from milepost_client._sync.transport import Transport
from milepost_client._sync.watching import PATIENCE
from milepost_client.answers import retry_after
from milepost_client.errors import JobNotFound, StillRunning, Unavailable
from milepost_client.submissions import Batch, GroupStatus, Refusal
from milepost_contracts.document import JobDocument
from milepost_contracts.states import Status


class JobGroup:
    """Jobs that were handed over together; a look costs the same however many there are."""

    def __init__(
        self,
        transport: Transport,
        batch_ids: Sequence[str],
        *,
        job_ids: Sequence[str | None] = (),
        refused: Sequence[Refusal] = (),
    ) -> None:
        self._transport = transport
        #: By which the group can be found again: one for each thousand.
        self.batch_ids = tuple(batch_ids)
        #: In the order in which they were handed over; nothing for one that was refused.
        self.job_ids = tuple(job_ids)
        #: Those that were not accepted, and why.
        self.refused = tuple(refused)
        self._look_again_in = 0.0
        self._forgotten: set[str] = set()

    def refresh(self) -> GroupStatus:
        """Ask how far the jobs are.

        Raises:
            JobNotFound: Nothing is kept of them any more.
        """
        counts: Counter[Status] = Counter()
        size, pause = 0, 0.0
        for batch_id in self.batch_ids:
            response = self._transport.send("GET", f"/v1/batches/{batch_id}")
            batch = Batch.model_validate_json(response.content)
            size += batch.size
            counts.update(batch.counts)
            pause = max(pause, retry_after(response))
        self._look_again_in = pause
        accepted = sum(job_id is not None for job_id in self.job_ids)
        size = accepted or size  # a batch has those too that the broker did not take
        told = {status: count for status, count in counts.items() if count}
        if all(status.terminal for status in told) and sum(told.values()) < accepted:
            self._look_for_forgotten()
        return GroupStatus(size=size, counts=told, forgotten=len(self._forgotten))

    def _look_for_forgotten(self) -> None:
        """Find out which jobs will never be counted: a job that no tracker has seen yet is not among them."""
        seen = {document.id for document in self.documents()}
        for job_id in self.job_ids:
            if job_id is not None and job_id not in seen and job_id not in self._forgotten:
                try:
                    self._transport.send("GET", f"/v1/jobs/{job_id}")
                except JobNotFound:
                    self._forgotten.add(job_id)
                else:
                    return

    def watch(self, timeout: float | None = None) -> Generator[GroupStatus, None]:
        """Yield how far the jobs are, now and whenever that has changed, until all have ended.

        Args:
            timeout: After so many seconds it is enough.

        Raises:
            StillRunning: They have not all ended within `timeout` seconds.
        """
        deadline = None if timeout is None else monotonic() + timeout
        status, answered = self.refresh(), monotonic()
        yield status
        while not status.done:
            left = self._look_again_in if deadline is None else deadline - monotonic()
            if left < 0:
                raise StillRunning(f"{status.size - status.ended} of {status.size} jobs have not ended in time")
            sleep(min(self._look_again_in, left))
            known = status
            try:
                status = self.refresh()
            except Unavailable as error:
                if monotonic() - answered > PATIENCE:
                    raise
                self._look_again_in = error.retry_after
                continue
            answered = monotonic()
            if status != known:
                yield status

    def wait(self, timeout: float | None = None) -> GroupStatus:
        """Return how the jobs ended, once all have.

        Raises:
            StillRunning: They have not all ended within `timeout` seconds.
        """
        latest = GroupStatus(size=0, counts={})
        with closing(self.watch(timeout)) as changes:
            for status in changes:
                latest = status
        return latest

    def documents(self, *, status: Status | None = None) -> Generator[JobDocument, None]:
        """Yield the document of each job, the latest one first."""
        for batch_id in reversed(self.batch_ids):
            query = {"batch": batch_id, **({} if status is None else {"status": str(status)})}
            with closing(jobs(self._transport, query)) as found:
                for document in found:
                    yield document
