"""Uses the gateway with the client that openapi-python-client generated. Exit 1 with a sentence if it fails.

Run with the folder of the generated package on PYTHONPATH: see ./gateway.
"""

import io
import os
import sys
import time
from http import HTTPStatus
from uuid import uuid4

from milepost_generated import Client
from milepost_generated.api.jobs import cancel_job, get_job, get_result, list_jobs, submit_job
from milepost_generated.api.workers import list_job_types
from milepost_generated.models import JobDocument, JobPage, JobTypes, Problem, Status, Submission, SubmissionParams
from milepost_generated.models import SubmitJobFilesBody as Form
from milepost_generated.types import File

ENDED = {Status.SUCCEEDED, Status.FAILED, Status.CANCELED}


def main() -> None:
    client = Client(base_url=os.environ["MILEPOST_URL"], timeout=30, raise_on_unexpected_status=True)

    types = list_job_types.sync(client=client)
    check(isinstance(types, JobTypes) and "count" in {one.type_ for one in types.items}, f"no type count: {types}")

    tag = uuid4().hex
    params = SubmissionParams.from_dict({"steps": 5})
    answer = submit_job.sync_detailed(client=client, body=Submission(type_="count", params=params, tags=[tag]))
    check(answer.status_code == HTTPStatus.ACCEPTED, f"not accepted: {answer}")
    job = wait_for_end(client, answer.parsed)
    check(job.status is Status.SUCCEEDED and job.result == {"counted": 5}, f"it ended as {job}")
    result = get_result.sync(job.id, client=client)
    check(result == {"counted": 5}, f"the result is {result}")

    page = list_jobs.sync(client=client, tag=tag)
    check(isinstance(page, JobPage) and [one.id for one in page.items] == [job.id], f"the list is {page}")

    refused = cancel_job.sync_detailed(job.id, client=client)
    check(refused.status_code == HTTPStatus.CONFLICT and isinstance(refused.parsed, Problem), f"not refused: {refused}")
    check(refused.parsed.type_.endswith("#job-already-finished"), f"the problem is {refused.parsed}")
    print(f"{refused.parsed.status} {refused.parsed.title}")

    wrong = submit_job.sync(client=client, body=Submission(type_="no-such-type"))
    check(isinstance(wrong, Problem) and wrong.status == HTTPStatus.UNPROCESSABLE_ENTITY, f"not refused: {wrong}")

    form = Form(
        job=Submission(type_="digest-files"),
        file=[File(payload=io.BytesIO(b"hello\n"), file_name="hello.txt", mime_type="text/plain")],
    )
    with_file = submit_job.sync(client=client, body=form)
    job = wait_for_end(client, with_file)
    check(job.status is Status.SUCCEEDED and job.files[0].name == "hello.txt", f"it ended as {job}")
    print(f"digest-files: {job.result}")


def wait_for_end(client: Client, job: object) -> JobDocument:
    deadline = time.monotonic() + 30
    while isinstance(job, JobDocument) and job.status not in ENDED and time.monotonic() < deadline:
        job = get_job.sync(job.id, client=client, prefer="wait=10")
    check(isinstance(job, JobDocument), f"no document: {job}")
    check(job.status in ENDED, f"not ended within 30 seconds: {job.status}")
    print(f"{job.type_} {job.id}: {job.status.value}")
    return job


def check(ok: bool, message: str) -> None:
    if not ok:
        sys.exit(f"FAILED: {message}")


main()
