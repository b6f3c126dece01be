"""One complete Milepost for all tests in this folder: RabbitMQ, Redis, a gateway, a tracker and two processors."""

import httpx
import pytest
from waiting import wait_until

UNFINISHED = {"scheduled", "queued", "running", "retrying"}


@pytest.fixture(scope="session")
def http(stack):
    """A plain HTTP client; paths are relative to the gateway's URL."""
    limits = httpx.Limits(keepalive_expiry=2)  # a connection that the gateway is about to close is not used again
    with httpx.Client(base_url=stack.state.url, timeout=40, limits=limits) as made:
        yield made


@pytest.fixture
def wait_for(http):
    """Poll a job until it is in one of these states, by default until it has ended; return its document."""

    def wait(location, *statuses, within=30):
        def poll():
            document = http.get(location).json()
            reached = document["status"] in statuses if statuses else document["status"] not in UNFINISHED
            return document if reached else None

        return wait_until(poll, within=within, what=f"the job is {' or '.join(statuses) or 'at its end'}")

    return wait
