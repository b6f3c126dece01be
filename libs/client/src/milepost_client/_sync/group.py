# Made from _async/group.py by 'make contracts': change it there.
"""Jobs that were submitted together: their counts per state, and their documents."""

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from time import monotonic, sleep

from milepost_client._sync.listing import jobs
from milepost_client._sync.transport import Transport
from milepost_client._sync.watching import OUTAGE_TIMEOUT
from milepost_client.answers import retry_after
from milepost_client.arguments import Duration, seconds
from milepost_client.errors import JobNotFound, StillRunning, Unavailable
from milepost_client.submissions import Batch, GroupStatus, Refusal
from milepost_contracts.states import Status
from milepost_contracts.status.document import JobDocument


class JobGroup:
    """Jobs that were submitted together. `refresh` costs one request for each thousand jobs."""

    def __init__(
        self,
        transport: Transport,
        batch_ids: Sequence[str],
        *,
        job_ids: Sequence[str | None] = (),
        refused: Sequence[Refusal] = (),
    ) -> None:
        self._transport = transport
        #: The ids to pass to `Client.group`: one for each request of up to a thousand jobs.
        self.batch_ids = tuple(batch_ids)
        #: In order of submission; None for a job that was refused.
        self.job_ids = tuple(job_ids)
        #: The jobs that were not accepted, with the reasons.
        self.refused = tuple(refused)
        self._poll_delay = 0.0
        self._deleted: set[str] = set()

    def refresh(self) -> GroupStatus:
        """Return the current counts of the jobs.

        Raises:
            JobNotFound: A batch does not exist, or is past its retention.
        """
        counts: Counter[Status] = Counter()
        size, delay = 0, 0.0
        for batch_id in self.batch_ids:
            response = self._transport.send("GET", f"/v1/batches/{batch_id}")
            batch = Batch.model_validate_json(response.content)
            size += batch.size
            counts.update(batch.counts)
            delay = max(delay, retry_after(response))
        self._poll_delay = delay
        accepted = sum(job_id is not None for job_id in self.job_ids)
        size = accepted or size  # the size of a batch includes jobs that the broker did not accept
        nonzero = {status: count for status, count in counts.items() if count}
        if all(status.terminal for status in nonzero) and sum(nonzero.values()) < accepted:
            self._find_deleted()
        return GroupStatus(size=size, counts=nonzero, deleted=len(self._deleted))

    def _find_deleted(self) -> None:
        """Find the deleted jobs. Jobs that no tracker has seen yet are not among them."""
        seen = {document.id for document in self.documents()}
        for job_id in self.job_ids:
            if job_id is not None and job_id not in seen and job_id not in self._deleted:
                try:
                    self._transport.send("GET", f"/v1/jobs/{job_id}")
                except JobNotFound:
                    self._deleted.add(job_id)
                else:
                    return

    def watch(self, timeout: Duration | None = None) -> Generator[GroupStatus, None]:
        """Yield the counts now and whenever they change, until all jobs have ended.

        Args:
            timeout: How long to wait: a `timedelta`, or seconds; unlimited by default.

        Raises:
            StillRunning: Not all jobs have ended within `timeout`.
            Unavailable: The gateway has not answered for 30 seconds.
        """
        deadline = None if timeout is None else monotonic() + seconds("timeout", timeout)
        status, answered = self.refresh(), monotonic()
        yield status
        while not status.done:
            left = self._poll_delay if deadline is None else deadline - monotonic()
            if left < 0:
                raise StillRunning(f"{status.size - status.ended} of {status.size} jobs are still running.")
            sleep(min(self._poll_delay, left))
            known = status
            try:
                status = self.refresh()
            except Unavailable as error:
                if monotonic() - answered > OUTAGE_TIMEOUT:
                    raise
                self._poll_delay = error.retry_after
                continue
            answered = monotonic()
            if status != known:
                yield status

    def wait(self, timeout: Duration | None = None) -> GroupStatus:
        """Wait until all jobs have ended, and return their counts.

        Args:
            timeout: How long to wait: a `timedelta`, or seconds; unlimited by default.

        Raises:
            StillRunning: Not all jobs have ended within `timeout`.
            Unavailable: The gateway has not answered for 30 seconds.
        """
        latest = GroupStatus(size=0, counts={})
        with closing(self.watch(timeout)) as changes:
            for status in changes:
                latest = status
        return latest

    def documents(self, *, status: Status | None = None) -> Generator[JobDocument, None]:
        """Yield the document of each job, newest first."""
        for batch_id in reversed(self.batch_ids):
            query = {"batch": batch_id, **({} if status is None else {"status": str(status)})}
            with closing(jobs(self._transport, query)) as found:
                for document in found:
                    yield document
