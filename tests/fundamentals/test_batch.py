"""Submit many jobs in one request, and follow them as one.

A client sends `POST /v1/jobs:batch` with up to 1,000 submissions. The answer is 207 with the outcome of each, in their
order: 202 and the job's URL, or a problem. One invalid job does not stop the others.

`GET` on the batch's URL counts its jobs by status; it costs the same for ten jobs and for a thousand. The documents are
in the list of jobs, which can be filtered by batch, type, status, queue and tag, and is read page by page.
"""

from collections import Counter

from waiting import wait_until


def test_each_job_of_a_batch_is_accepted_or_refused_by_itself(http):
    """The answer tells which, and why."""
    jobs = [{"type": "noop"}, {"type": "count", "params": {"steps": "many"}}, {"type": "noop"}]
    submitted = http.post("/v1/jobs:batch", json={"jobs": jobs})
    batch = submitted.json()
    assert (207, 2, 1) == (submitted.status_code, batch["accepted"], batch["refused"])
    assert submitted.headers["location"] == batch["url"]
    assert [202, 422, 202] == [item["status"] for item in batch["items"]]
    first, second, _ = batch["items"]
    wait_until(lambda: "noop" == http.get(first["url"]).json()["type"], within=20, what="a tracker has seen the job")
    assert second["problem"]["type"].endswith("#invalid-params")
    assert [{"pointer": "/jobs/1/params/steps", "detail": '"many" is not of type "integer"'}] == second["problem"][
        "errors"
    ]


def test_a_batch_says_how_far_it_is_and_its_jobs_spread_over_the_processors(http):
    """None waits for one processor while another is free."""
    jobs = [{"type": "count", "params": {"steps": 10, "delay": 0.05}}] * 24
    location = http.post("/v1/jobs:batch", json={"jobs": jobs}).headers["location"]

    def ended():
        batch = http.get(location).json()
        return batch if batch["ended"] == 24 else None

    batch = wait_until(ended, within=60, what="all jobs have ended")
    states = ["scheduled", "queued", "running", "retrying", "succeeded", "failed", "canceled"]
    assert {
        "id": batch["id"],
        "size": 24,
        "counts": dict.fromkeys(states, 0) | {"succeeded": 24},
        "unseen": 0,
        "expired": 0,
        "ended": 24,
        "percent": 100.0,
        "created_at": batch["created_at"],
        "links": {"self": f"/v1/batches/{batch['id']}", "jobs": f"/v1/jobs?batch={batch['id']}"},
    } == batch

    documents = http.get(batch["links"]["jobs"]).json()["items"]
    assert 24 == len(documents)
    assert {batch["id"]} == {document["batch"] for document in documents}
    assert 2 == len(Counter(document["worker"] for document in documents))


def test_jobs_are_listed_newest_first_page_by_page(http, wait_for):
    """`next` is the URL of the next page; each job is listed once."""
    jobs = [{"type": "echo", "params": {"text": str(number)}} for number in range(7)]
    items = http.post("/v1/jobs:batch", json={"jobs": jobs}).json()["items"]
    for item in items:
        wait_for(item["url"])
    seen, times, url = [], [], "/v1/jobs?type=echo&status=succeeded&limit=3"
    while url:
        page = http.get(url).json()
        assert len(page["items"]) <= 3
        assert all(("echo", "succeeded") == (one["type"], one["status"]) for one in page["items"])
        seen += [one["id"] for one in page["items"]]
        times += [one["created_at"] for one in page["items"]]
        url = page["next"]
    assert sorted(times, reverse=True) == times
    assert {1} == set(Counter(seen).values())
    wanted = {item["job_id"] for item in items}
    assert wanted <= set(seen)
    failed = http.get("/v1/jobs?type=echo&status=failed").json()["items"]
    assert not wanted & {one["id"] for one in failed}
