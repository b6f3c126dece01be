"""A secret leaves no trace in RabbitMQ, Redis, logs or answers, on every way that a job goes, with real parts."""

import hashlib
from pathlib import Path
from secrets import token_hex

import pytest
import redis

from milepost_client import Client
from milepost_contracts.secret_params import MASK

CANARIES = [f"canary{token_hex(8)}", f"canary{token_hex(8)}é\"'/+"]


@pytest.fixture(scope="module")
def stack(start_stack):
    """A stack whose log lines, data and handler are this module's own."""
    settings = {
        "PYTHONPATH": str(Path(__file__).parent),
        "MILEPOST_HANDLERS": "secret_jobs",
        "MILEPOST_LOG_LEVEL": "debug",
    }
    made = start_stack("secrets", gateways=1, processors=1, trackers=1, settings=settings)
    yield made
    made.down()


def params(do="return"):
    return {"token": CANARIES[0], "logins": [{"user": "alice", "password": CANARIES[1]}], "do": do}


def masked(do="return"):
    return {"token": MASK, "logins": [{"user": "alice", "password": MASK}], "do": do}


def forms():
    """Return what would show a secret: its letters, in whatever form they are stored."""
    return [one[:22].encode() for one in CANARIES] + [one[:22].encode("utf-16-le") for one in CANARIES]


def traces(folder):
    """Return the files below a folder that contain a secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if any(form in path.read_bytes() for form in forms())]


def test_a_secret_reaches_its_handler_and_nobody_else(stack, http):
    """A job that succeeds, one that fails after a retry, a retry by hand, a scheduled one, a batch, and refusals."""
    answers = []

    def send(method, path, **more):
        answer = http.request(method, path, **more)
        answers.append(answer.text)
        return answer

    with Client(stack.state.url) as client:
        job = client.submit("fetch", params())
        digests = [hashlib.sha256(one.encode()).hexdigest() for one in CANARIES]
        assert digests == job.result(timeout=120)["digests"].split()
        failing = client.submit("fetch", params("raise"), tags=["failing"])
        document = failing.wait(timeout=120)
        assert ("failed", 2, masked("raise")) == (document.status, document.attempt, document.params)
        assert document.error.message.startswith(f"401 for ['{MASK}', '{MASK}")
        assert document.progress.message.startswith(f"with ['{MASK}', '{MASK}")
        failing.retry()
        again = failing.wait(timeout=120)
        assert ("failed", 2, document.error.message) == (again.status, again.run, again.error.message)

    scheduled = send("POST", "/v1/jobs", json={"type": "fetch", "params": params(), "delay": 3600})
    assert masked() == scheduled.json()["params"]
    send("POST", "/v1/jobs:batch", json={"jobs": [{"type": "fetch", "params": params()}] * 3})
    send("POST", "/v1/jobs", json={"type": "fetch", "params": params()}, headers={"Idempotency-Key": '"k"'})
    send("POST", "/v1/jobs", json={"type": "fetch", "params": params() | {"logins": CANARIES[0]}})
    for path in ("/v1/jobs", f"/v1/jobs/{job.id}", f"/v1/jobs/{failing.id}", "/v1/dead-letters", "/v1/job-types"):
        assert 200 == send("GET", path).status_code
    for accept in ("text/event-stream", "application/x-ndjson"):
        streamed = send("GET", f"/v1/jobs/{failing.id}/events", headers={"Accept": accept})
        assert (200, True) == (streamed.status_code, MASK in streamed.text)
        assert "sealed" not in streamed.text

    store = redis.Redis.from_url(stack.state.redis_url)
    assert any(b"sealed" in value for value in _values(store)), "the view keeps the secrets, sealed, for the retry"
    assert not any(form in value for form in forms() for value in _values(store))
    assert not any(form in answer.encode() for form in forms() for answer in answers)
    assert [] == traces(stack.folder), "RabbitMQ's queues and streams, Redis' files and all logs"
    log = stack.log_of("processor-1").read_text()
    assert f"calling with ['{MASK}', '{MASK}']" in log.replace("\\", "")


def _values(store):
    for key in store.scan_iter(count=1000):
        yield store.dump(key)  # as it would be on a disk; small values are not compressed
        if store.type(key) == b"hash":
            yield from store.hgetall(key).values()
