"""Follow a job as it happens, without polling.

`GET /v1/jobs/{id}/events` is a stream of Server-Sent Events: first a `snapshot` of the job as it is, then `started`,
`progressed`, `retrying` and so on as they happen. The stream ends with the job. The data of each event is a CloudEvent
with the complete job, so a reader needs no other request.

The id of an event is the job's version. A reader that lost its connection comes back with `Last-Event-ID`, at any
gateway, and gets what came since. A slow reader may miss intermediate `progressed` events, never the latest one.
"""

import json
from secrets import token_hex

from httpx_sse import connect_sse


def test_a_stream_shows_a_job_from_its_snapshot_to_its_end(http):
    """Names are in the past tense, ids grow, and the last event has the result."""
    job = {"type": "count", "params": {"steps": 5, "delay": 0.1}, "delay": 1}
    location = http.post("/v1/jobs", json=job).headers["location"]
    with connect_sse(http, "GET", f"{location}/events") as stream:
        events = list(stream.iter_sse())
    names = [event.event for event in events]
    assert ["snapshot", "started", "progressed"] == list(dict.fromkeys(names))[:3]
    assert "succeeded" == names[-1]
    ids = [int(event.id) for event in events]
    assert sorted(set(ids)) == ids
    last = events[-1].json()
    assert last | {"type": "dev.milepost.job.succeeded.v1", "source": f"/v1/jobs/{last['subject']}"} == last
    assert {"counted": 5} == last["data"]["result"]
    assert http.get(location).headers["etag"] == f'"{events[-1].id}"'


def test_a_reader_that_comes_back_gets_what_came_since(http):
    """After the last event the answer is 204: a browser's EventSource does not reconnect then."""
    job = {"type": "count", "params": {"steps": 20, "delay": 0.1}}
    location = http.post("/v1/jobs", json=job).headers["location"]
    with connect_sse(http, "GET", f"{location}/events") as stream:
        last_seen = next(event.id for event in stream.iter_sse() if event.event == "progressed")

    with connect_sse(http, "GET", f"{location}/events", headers={"Last-Event-ID": last_seen}) as stream:
        events = list(stream.iter_sse())
    assert all(int(event.id) > int(last_seen) for event in events)
    assert {"progressed", "succeeded"} == {event.event for event in events}, "no second snapshot"

    nothing_more = http.get(f"{location}/events", headers={"Last-Event-ID": events[-1].id})
    assert (204, "") == (nothing_more.status_code, nothing_more.text)


def test_a_job_is_submitted_and_followed_in_one_request(http):
    """With `Accept: application/x-ndjson` the answer to the submission is the stream, a CloudEvent per line."""
    job = {"type": "echo", "params": {"text": "hello"}}
    answer = http.post("/v1/jobs", json=job, headers={"Accept": "application/x-ndjson"})
    assert (200, "application/x-ndjson") == (answer.status_code, answer.headers["content-type"])
    events = [json.loads(line) for line in answer.text.splitlines() if line]
    assert "dev.milepost.job.succeeded.v1" == events[-1]["type"]
    assert {"text": "hello"} == events[-1]["data"]["result"]
    assert "succeeded" == http.get(answer.headers["location"]).json()["status"]


def test_all_jobs_with_a_tag_are_followed_in_one_stream(http):
    """Jobs that are submitted later are included; the stream ends when the reader leaves."""
    tag = token_hex(8)
    succeeded = []
    with connect_sse(http, "GET", "/v1/events", params={"tag": tag}) as stream:
        for event in stream.iter_sse():
            if event.event == "opened":
                jobs = [http.post("/v1/jobs", json={"type": "noop", "tags": [tag]}).json() for _ in range(3)]
            if event.event == "succeeded":
                succeeded.append(event.json()["subject"])
            if len(succeeded) == 3:
                break
    assert {job["id"] for job in jobs} == set(succeeded)
