"""See how far a job is, while it runs.

A handler reports `run.progress(done, total)` as often as it likes, and emits partial results. The document shows the
latest report under `progress`, with percent, rate and remaining seconds, and the latest partial results under `items`.

A reader may miss intermediate reports, never the last one. What it sees only goes forward: `version` grows with each
change, and percent does not fall within an attempt.
"""

from waiting import wait_until


def test_a_running_job_shows_its_progress(http):
    """Percent and remaining time follow from `done` and `total`."""
    submitted = http.post("/v1/jobs", json={"type": "count", "params": {"steps": 40, "delay": 0.05}})

    def well_under_way():
        document = http.get(submitted.headers["location"]).json()
        return document if document["progress"] and document["progress"]["done"] >= 10 else None

    document = wait_until(well_under_way, within=20, what="ten steps are reported")
    assert "running" == document["status"]
    progress = document["progress"]
    done = progress["done"]
    assert progress | {"total": 40, "percent": 2.5 * done, "unit": "steps", "message": None} == progress
    assert progress["rate"] > 0
    assert progress["eta_seconds"] > 0


def test_partial_results_are_visible_while_the_job_runs(http):
    """`items` counts them, and has the latest ten."""
    job = ("job", (None, '{"type": "digest-files", "params": {"pause": 0.5}}', "application/json"))
    files = [("file", (name, b"one two\n", "text/plain")) for name in ("a.txt", "b.txt", "c.txt")]
    submitted = http.post("/v1/jobs", files=[job, *files])

    def some_are_done():
        document = http.get(submitted.headers["location"]).json()
        return document if document["items"]["count"] and 0 < document["progress"]["percent"] < 100 else None

    document = wait_until(some_are_done, within=20, what="there is a partial result")
    assert "running" == document["status"]
    assert 1 <= document["items"]["count"] <= 2
    assert {
        "name": "a.txt",
        "sha256": "2dbb4a503f1515636b6a54e7f5b1a8ccfddcb62f0571c8b57a2879c360d00346",
        "size": 8,
        "lines": 1,
        "words": 2,
        "media_type": "text/plain",
    } == document["items"]["last"][0]


def test_what_a_reader_sees_only_goes_forward(http):
    """A long poll answers at the next change: `Prefer: wait`, and the ETag of the last answer."""
    submitted = http.post("/v1/jobs", json={"type": "count", "params": {"steps": 30, "delay": 0.05}})
    seen, etag = [], '"0"'
    while not seen or seen[-1]["status"] in ("queued", "running"):
        answer = http.get(submitted.headers["location"], headers={"Prefer": "wait=30", "If-None-Match": etag})
        assert 200 == answer.status_code
        etag = answer.headers["etag"]
        seen.append(answer.json())
    versions = [document["version"] for document in seen]
    assert sorted(set(versions)) == versions
    percents = [document["progress"]["percent"] for document in seen if document["progress"]]
    assert sorted(percents) == percents
    assert 100.0 == percents[-1]
    statuses = [document["status"] for document in seen]
    assert sorted(statuses, key=["queued", "running", "succeeded"].index) == statuses
    assert "succeeded" == statuses[-1]


def test_a_processor_says_which_jobs_it_runs(http):
    """In its heartbeat, every few seconds."""
    submitted = http.post("/v1/jobs", json={"type": "count", "params": {"steps": 200, "delay": 0.1}})
    job = submitted.json()

    def running():
        items = http.get("/v1/processors").json()["items"]
        return [one for item in items for one in item["running"] if one["id"] == job["id"]]

    (shown,) = wait_until(running, within=15, what="a heartbeat names the job")
    assert shown | {"id": job["id"], "type": "count", "attempt": 1} == shown
    assert 202 == http.post(job["links"]["cancel"]).status_code
