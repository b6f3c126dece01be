"""Event streams over HTTP with third-party clients, while gateways restart."""

import json
import threading
from contextlib import suppress
from uuid import uuid4

import httpx
import httpx_sse
import websockets.sync.client
from waiting import wait_until

from milepost_stack import processes


def submit(http, type, **params):
    return http.post("/v1/jobs", json={"type": type, "params": params}).headers["location"]


def follow(http, location, **more):
    with httpx_sse.connect_sse(http, "GET", f"{location}/events", **more) as source:
        return list(source.iter_sse())


def test_an_event_source_receives_every_event_in_order(http):
    """With httpx-sse: ids grow, names are in the past tense, data are CloudEvents."""
    received = follow(http, submit(http, "count", steps=30, delay=0.1))
    names = [event.event for event in received]
    ids = [int(event.id) for event in received]
    assert ("snapshot", "succeeded") == (names[0], names[-1])
    assert {"snapshot", "submitted", "started", "progressed", "succeeded"} >= set(names)
    assert "progressed" in names
    assert sorted(set(ids)) == ids
    assert "dev.milepost.job.succeeded.v1" == received[-1].json()["type"]
    assert all(event.data for event in received), "no empty events"


def test_a_job_is_submitted_and_streamed_in_one_request(http):
    """NDJSON: each line is a CloudEvent; the last one has the result."""
    request = {"type": "echo", "params": {"text": "hi"}}
    answer = http.post("/v1/jobs", json=request, headers={"Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in answer.text.splitlines() if line]
    assert {"text": "hi"} == lines[-1]["data"]["result"]
    assert "succeeded" == http.get(answer.headers["location"]).json()["status"]


def test_all_jobs_with_a_tag_are_streamed_over_one_connection(http, client):
    """New jobs are included; a reader that resumes gets the events it missed, also of jobs with an idempotency key."""
    tag = f"tag-{uuid4().hex}"
    first = client.submit("count", {"steps": 50, "delay": 0.1}, tags=[tag])
    wait_until(lambda: client.job(first.id).document.status == "running", within=15, what="the job runs")
    keyed, received = {"type": "noop", "tags": [tag]}, []

    def read(until, cursor=None):
        with httpx_sse.connect_sse(
            http, "GET", "/v1/events", params={"tag": tag, "last_event_id": cursor or ""}
        ) as one:
            for event in one.iter_sse():
                received.append((event.event, event.json().get("subject")))
                if len(received) == 2:
                    until.add(http.post("/v1/jobs", json=keyed, headers={"Idempotency-Key": tag}).json()["id"])
                if until <= {job_id for name, job_id in received if name == "succeeded"}:
                    return event.id
        return None

    cursor = read({first.id})
    assert [("opened", None), ("snapshot", first.id)] == received[:2]
    third = client.submit("noop", tags=[tag])
    third.wait(30)
    received.clear()
    read({third.id}, cursor)
    names = [name for name, job_id in received if job_id == third.id]
    assert ["submitted", "succeeded"] == [name for name in names if name != "started"], "it may be over too soon for it"


def test_a_job_that_lasts_tells_its_start(http):
    """Once, to whoever listened before it began."""
    request = {"type": "count", "params": {"steps": 30, "delay": 0.1}, "delay": 2}
    names = [event.event for event in follow(http, http.post("/v1/jobs", json=request).headers["location"])]
    assert ("snapshot", 1, "succeeded") == (names[0], names.count("started"), names[-1])
    assert "progressed" in names


def test_a_long_poll_returns_the_next_version(http):
    """Each request waits for the next version; no version is returned twice."""
    location = submit(http, "count", steps=4, delay=0.3)
    seen, etag = [], '"0"'
    while not seen or seen[-1]["status"] not in ("succeeded", "failed"):
        answer = http.get(location, headers={"If-None-Match": etag, "Prefer": "wait=30"})
        assert 200 == answer.status_code
        etag = answer.headers["etag"]
        seen.append(answer.json())
    versions = [document["version"] for document in seen]
    assert sorted(set(versions)) == versions
    assert "succeeded" == seen[-1]["status"]


def test_a_submission_with_prefer_wait_returns_the_result(http):
    """200 with the document, if the job ends in time."""
    request = {"type": "echo", "params": {"text": "hi"}}
    answer = http.post("/v1/jobs", json=request, headers={"Prefer": "wait=20"})
    assert (200, {"text": "hi"}) == (answer.status_code, answer.json()["result"])
    assert answer.headers["content-location"] == answer.headers["location"]


def test_a_websocket_sends_events_and_accepts_a_cancel(http, url):
    """With the `websockets` package."""
    location = submit(http, "count", steps=500, delay=0.1)
    address = location.replace("http", "ws", 1) + "/ws"
    received = []
    with websockets.sync.client.connect(address, subprotocols=["cloudevents.json"]) as socket:
        while not received or received[-1]["type"] != "dev.milepost.job.progressed.v1":
            received.append(json.loads(socket.recv(timeout=10)))
        socket.send(json.dumps({"type": "cancel"}))
        received += [json.loads(frame) for frame in socket]
    assert ("dev.milepost.job.canceled.v1", 1000) == (received[-1]["type"], socket.close_code)
    assert "canceled" == http.get(location).json()["status"]


def test_a_websocket_frame_that_is_too_large_closes_the_connection(http):
    """With code 1009, while the job still runs."""
    location = submit(http, "count", steps=1_000, delay=0.1)
    with websockets.sync.client.connect(location.replace("http", "ws", 1) + "/ws") as socket:
        socket.send("x" * 10_000)
        with suppress(websockets.exceptions.ConnectionClosed):
            while True:
                socket.recv(timeout=10)
    assert socket.close_code == 1009
    assert http.post(f"{location}/cancel").is_success


def test_several_jobs_are_streamed_over_one_connection(http):
    """Until the last of them has ended."""
    locations = [submit(http, "count", steps=5 * n, delay=0.05) for n in (1, 2, 3)]
    ids = [location.rpartition("/")[2] for location in locations]
    with httpx_sse.connect_sse(http, "GET", "/v1/events", params={"job": ids}) as source:
        received = list(source.iter_sse())
    ended = [event.json()["subject"] for event in received if event.json()["type"] == "dev.milepost.job.succeeded.v1"]
    assert sorted(ids) == sorted(ended)


def test_readers_miss_no_lifecycle_event_when_their_gateway_restarts(stack, http):
    """They resume with `Last-Event-ID`, as an EventSource does. The job runs until it is canceled."""
    received = []
    location = submit(http, "count", steps=5_000, delay=0.1)

    def read():
        last = None
        while not received or received[-1].event != "canceled":
            try:
                headers = {} if last is None else {"Last-Event-ID": last}
                with httpx_sse.connect_sse(http, "GET", f"{location}/events", headers=headers) as source:
                    for event in source.iter_sse():
                        received.append(event)
                        last = event.id
            except httpx.TransportError:
                pause.wait(0.1)  # then it reconnects

    def wait_for_more():
        before = len(received)
        wait_until(lambda: len(received) > before + 3, within=40, what="events arrive")

    reading, pause = threading.Thread(target=read, daemon=True), threading.Event()
    reading.start()
    for _ in range(2):
        wait_for_more()
        processes.stop(stack.state.process("gateway-1"))
        stack.revive("gateway-1")
    wait_for_more()
    assert 202 == http.post(f"{location}/cancel").status_code
    reading.join(timeout=60)
    names = [event.event for event in received]
    ids = [int(event.id) for event in received]
    assert "canceled" == names[-1]
    assert sorted(set(ids)) == ids, "nothing twice, and nothing out of order"
    assert "started" in names or names[0] == "snapshot"
    assert "gap" not in names
    assert 1 == names.count("snapshot"), "each reconnect resumed"
