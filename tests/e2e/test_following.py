"""Following jobs over HTTP with other people's clients, while gateways come and go."""

import json
import threading
from contextlib import suppress
from uuid import uuid4

import httpx
import httpx_sse
import pytest
import websockets.sync.client
from waiting import wait_until

from milepost_stack import processes


@pytest.fixture
def http(url):
    with httpx.Client(base_url=url, timeout=40) as made:
        yield made


def submit(http, type, **params):
    return http.post("/v1/jobs", json={"type": type, "params": params}).headers["location"]


def follow(http, location, **more):
    with httpx_sse.connect_sse(http, "GET", f"{location}/events", **more) as source:
        return list(source.iter_sse())


def test_an_event_source_sees_every_event_in_its_order(http):
    """As httpx-sse reads it: ids grow, names are in the past tense, data are CloudEvents."""
    told = follow(http, submit(http, "count", steps=30, delay=0.1))
    names = [event.event for event in told]
    ids = [int(event.id) for event in told]
    assert ("snapshot", "succeeded") == (names[0], names[-1])
    assert {"snapshot", "submitted", "started", "progressed", "succeeded"} >= set(names)
    assert "progressed" in names
    assert sorted(set(ids)) == ids
    assert "dev.milepost.job.succeeded.v1" == told[-1].json()["type"]
    assert all(event.data for event in told), "no empty events"


def test_a_job_is_handed_over_and_followed_in_one_request(http):
    """NDJSON: each line a CloudEvent; the last one has the result."""
    request = {"type": "echo", "params": {"text": "hi"}}
    answer = http.post("/v1/jobs", json=request, headers={"Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in answer.text.splitlines() if line]
    assert {"text": "hi"} == lines[-1]["data"]["result"]
    assert "succeeded" == http.get(answer.headers["location"]).json()["status"]


def test_all_jobs_with_a_tag_are_followed_in_one_stream(http, client):
    """Those that come while one listens, too; and who comes back is told what came meanwhile, keyed jobs included."""
    tag = f"tag-{uuid4().hex}"
    first = client.submit("count", {"steps": 50, "delay": 0.1}, tags=[tag])
    wait_until(lambda: client.job(first.id).document.status == "running", within=15, what="the job runs")
    keyed, told = {"type": "noop", "tags": [tag]}, []

    def read(until, cursor=None):
        with httpx_sse.connect_sse(
            http, "GET", "/v1/events", params={"tag": tag, "last_event_id": cursor or ""}
        ) as one:
            for event in one.iter_sse():
                told.append((event.event, event.json().get("subject")))
                if len(told) == 2:
                    until.add(http.post("/v1/jobs", json=keyed, headers={"Idempotency-Key": tag}).json()["id"])
                if until <= {job_id for name, job_id in told if name == "succeeded"}:
                    return event.id
        return None

    cursor = read({first.id})
    assert [("opened", None), ("snapshot", first.id)] == told[:2]
    third = client.submit("noop", tags=[tag])
    third.wait(30)
    told.clear()
    read({third.id}, cursor)
    names = [name for name, job_id in told if job_id == third.id]
    assert ["submitted", "succeeded"] == [name for name in names if name != "started"], "it may be over too soon for it"


def test_a_job_that_lasts_tells_its_start(http):
    """Once, to whoever listened before it began."""
    request = {"type": "count", "params": {"steps": 30, "delay": 0.1}, "delay": 2}
    names = [event.event for event in follow(http, http.post("/v1/jobs", json=request).headers["location"])]
    assert ("snapshot", 1, "succeeded") == (names[0], names.count("started"), names[-1])
    assert "progressed" in names


def test_a_long_poll_answers_with_the_change(http):
    """Each look waits for the next version; nobody asks twice for the same."""
    location = submit(http, "count", steps=4, delay=0.3)
    seen, tag = [], '"0"'
    while not seen or seen[-1]["status"] not in ("succeeded", "failed"):
        answer = http.get(location, headers={"If-None-Match": tag, "Prefer": "wait=30"})
        assert 200 == answer.status_code
        tag = answer.headers["etag"]
        seen.append(answer.json())
    versions = [document["version"] for document in seen]
    assert sorted(set(versions)) == versions
    assert "succeeded" == seen[-1]["status"]


def test_a_job_that_is_done_in_time_answers_its_own_submission(http):
    """No 202, no second request."""
    request = {"type": "echo", "params": {"text": "hi"}}
    answer = http.post("/v1/jobs", json=request, headers={"Prefer": "wait=20"})
    assert (200, {"text": "hi"}) == (answer.status_code, answer.json()["result"])
    assert answer.headers["content-location"] == answer.headers["location"]


def test_a_websocket_tells_events_and_takes_a_cancel(http, url):
    """As the `websockets` package speaks it."""
    location = submit(http, "count", steps=500, delay=0.1)
    address = location.replace("http", "ws", 1) + "/ws"
    told = []
    with websockets.sync.client.connect(address, subprotocols=["cloudevents.json"]) as socket:
        while not told or told[-1]["type"] != "dev.milepost.job.progressed.v1":
            told.append(json.loads(socket.recv(timeout=10)))
        socket.send(json.dumps({"type": "cancel"}))
        told += [json.loads(frame) for frame in socket]
    assert ("dev.milepost.job.canceled.v1", 1000) == (told[-1]["type"], socket.close_code)
    assert "canceled" == http.get(location).json()["status"]


def test_a_frame_that_is_too_large_ends_the_conversation(http):
    """Before it is read. The job lasts for longer than that."""
    location = submit(http, "count", steps=1_000, delay=0.1)
    with websockets.sync.client.connect(location.replace("http", "ws", 1) + "/ws") as socket:
        socket.send("x" * 10_000)
        with suppress(websockets.exceptions.ConnectionClosed):
            while True:
                socket.recv(timeout=10)
    assert socket.close_code == 1009
    assert http.post(f"{location}/cancel").is_success


def test_several_jobs_are_followed_over_one_connection(http):
    """Until the last of them has ended."""
    locations = [submit(http, "count", steps=5 * n, delay=0.05) for n in (1, 2, 3)]
    ids = [location.rpartition("/")[2] for location in locations]
    with httpx_sse.connect_sse(http, "GET", "/v1/events", params={"job": ids}) as source:
        told = list(source.iter_sse())
    ended = [event.json()["subject"] for event in told if event.json()["type"] == "dev.milepost.job.succeeded.v1"]
    assert sorted(ids) == sorted(ended)


def test_a_gateway_restarts_and_its_readers_miss_no_lifecycle_event(start_stack):
    """They come back with the last id they have, as an EventSource does. The job lasts until it is canceled."""
    stack = start_stack("following", gateways=1, processors=1, trackers=1)
    try:
        told = []
        with httpx.Client(base_url=stack.state.url, timeout=30) as http:
            location = submit(http, "count", steps=5_000, delay=0.1)

            def read():
                last = None
                while not told or told[-1].event != "canceled":
                    try:
                        headers = {} if last is None else {"Last-Event-ID": last}
                        with httpx_sse.connect_sse(http, "GET", f"{location}/events", headers=headers) as source:
                            for event in source.iter_sse():
                                told.append(event)
                                last = event.id
                    except httpx.TransportError:
                        pause.wait(0.1)  # it comes back

            def hear_more():
                before = len(told)
                wait_until(lambda: len(told) > before + 3, within=40, what="events arrive")

            reading, pause = threading.Thread(target=read, daemon=True), threading.Event()
            reading.start()
            for _ in range(2):
                hear_more()
                processes.stop(stack.state.process("gateway-1"))
                stack.revive("gateway-1")
            hear_more()
            assert 202 == http.post(f"{location}/cancel").status_code
            reading.join(timeout=60)
        names = [event.event for event in told]
        ids = [int(event.id) for event in told]
        assert "canceled" == names[-1]
        assert sorted(set(ids)) == ids, "nothing twice, and nothing out of order"
        assert "started" in names or names[0] == "snapshot"
        assert "gap" not in names
        assert 1 == names.count("snapshot"), "each return resumed"
    finally:
        stack.down()
