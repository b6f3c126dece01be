"""Read this first: what Milepost does, told by a client that hands jobs over and looks at them.

HTTP → RabbitMQ → a Dramatiq worker → RabbitMQ → the tracker → Redis → HTTP, all of it real.
"""

import hashlib
from collections import Counter
from pathlib import Path

import httpx
import pytest
from waiting import wait_until

from milepost_client import Client, JobFailed, find_files

HERE = Path(__file__).parent


def test_a_job_on_real_files_travels_the_whole_road(client):
    """Handed over, it is there at once; while it runs, each finished file shows; in the end its result is right."""
    files = find_files([HERE.parent / "support", HERE])
    handle = client.submit("digest-files", {"pause": 0.4}, files=files, tags=["fundamentals"])
    assert ("queued", "digest-files") == (handle.document.status, handle.document.type)

    seen = list(handle.watch(timeout=60))

    assert "succeeded" == seen[-1].status
    contents = [file.path.read_bytes() for file in files]
    assert (len(files), sum(map(len, contents)), b"".join(contents).count(b"\n")) == tuple(
        handle.document.result[name] for name in ("files", "size", "lines")
    )
    last = handle.document.items.last[-1]
    assert (files[-1].name, hashlib.sha256(contents[-1]).hexdigest()) == (last["name"], last["sha256"])
    running = [document for document in seen if document.status == "running" and document.progress]
    assert any(0 < document.progress.percent < 100 and document.items.count for document in running)


def test_what_a_reader_sees_only_goes_forward(client):
    """Versions grow, percent never falls within an attempt, and the states come in their order."""
    seen = list(client.submit("count", {"steps": 30, "delay": 0.1}).watch(timeout=60))
    versions = [document.version for document in seen]
    percents = [document.progress.percent for document in seen if document.progress]
    order = ["queued", "running", "succeeded"]
    assert sorted(versions) == versions
    assert len(versions) == len(set(versions))
    assert sorted(percents) == percents
    assert 100.0 == percents[-1]
    assert sorted((document.status for document in seen), key=order.index) == [document.status for document in seen]


def test_a_job_that_fails_says_why(client):
    """The exception is in the document, for people and for programs."""
    handle = client.submit("digest-files", {"paths": ["anything.txt"]})
    document = handle.wait(timeout=30)
    assert ("failed", "input-error") == (document.status, document.error.kind)
    assert "DIGEST_FILES_ROOT" in document.error.message
    with pytest.raises(JobFailed):
        handle.result()


@pytest.mark.parametrize(
    "type, params, result",
    [
        ("echo", {"text": "hello", "pause": 0.01}, {"text": "hello"}),
        ("noop", {}, None),
        ("count", {"steps": 3, "delay": 0}, {"counted": 3}),
        ("crunch", {"limit": 100_000}, {"limit": 100_000, "count": 9_592, "largest": 99_991}),
    ],
)
def test_sync_and_async_handlers_on_any_queue_return_their_results(client, type, params, result):
    """Each type in the queue of its own."""
    assert result == client.submit(type, params).result(timeout=30)


def test_what_can_be_submitted_is_announced_by_who_runs_it(client, url):
    """Types come with schemas; processors with what they serve. Nobody configured the gateway."""
    types = {one.type: one for one in client.types()}
    assert {"count", "crunch", "digest-files", "echo", "noop", "thumbnails"} <= set(types)
    assert "cpu" == types["crunch"].queue
    assert 2 == types["crunch"].params_schema["properties"]["limit"]["minimum"]
    # One that was killed is listed for as long as its last beat counts.
    processors = wait_until(
        lambda: len(found := httpx.get(f"{url}/v1/processors").json()["items"]) == 2 and found,
        within=20,
        what="there are two processors",
    )
    assert all("crunch" in processor["types"] for processor in processors)


def test_a_processor_says_what_it_runs(client, url):
    """With the job's id, while it runs."""
    handle = client.submit("count", {"steps": 80, "delay": 0.1})

    def running():
        items = httpx.get(f"{url}/v1/processors").json()["items"]
        return [job["id"] for item in items for job in item["running"]]

    wait_until(lambda: handle.id in running(), within=15, what="a beat names the job")


def test_jobs_are_listed_by_type_and_status_newest_first(client, url):
    """Page by page, each job once."""
    handles = [client.submit("echo", {"text": str(n)}) for n in range(7)]
    for handle in handles:
        handle.wait(timeout=30)
    wanted = {handle.id for handle in handles}
    seen, times, link = [], [], f"{url}/v1/jobs?type=echo&status=succeeded&limit=3"
    while link:
        page = httpx.get(link).json()
        assert len(page["items"]) <= 3
        assert all(("echo", "succeeded") == (item["type"], item["status"]) for item in page["items"])
        seen += [item["id"] for item in page["items"]]
        times += [item["created_at"] for item in page["items"]]
        link = page["next"]
    assert sorted(times, reverse=True) == times
    assert {1} == set(Counter(seen).values())
    assert wanted <= set(seen)
    assert not wanted & {job.id for job in client.jobs(type="echo", status="failed", limit=1000)}


def test_work_spreads_over_the_processors(client):
    """Two processors, and none waits while the other has more than it can run."""
    handles = [client.submit("count", {"steps": 10, "delay": 0.05}) for _ in range(24)]
    workers = Counter(handle.wait(timeout=60).worker for handle in handles)
    assert 2 == len(workers)


def test_every_gateway_answers_for_every_job(url, client):
    """A job handed over here can be looked at from any client that has its id."""
    job_id = client.submit("noop").id
    with Client(url) as another:
        assert "succeeded" == another.job(job_id).wait(timeout=30).status
