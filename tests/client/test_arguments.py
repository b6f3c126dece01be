"""The SDK refuses at once what Python would take for something else, and takes every duration in two forms."""

import math
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from milepost_client import AsyncClient, Client, StillRunning, Submission, Unavailable, find_files
from milepost_client.testing import FakeGateway

LENGTHS = [4, 4.0, timedelta(seconds=4)]


@pytest.fixture
def fake():
    gateway = FakeGateway()
    gateway.handle("x", None)
    return gateway


@pytest.mark.parametrize(
    "name, call",
    [
        ("tags", lambda client: client.submit("x", tags="nightly")),
        ("tags", lambda _: Submission(type="x", tags="nightly")),
        ("files", lambda client: client.submit("x", files="a.txt")),
        ("files", lambda client: client.submit("x", files=Path("a.txt"))),
        ("paths", lambda _: find_files("a.txt")),
        ("names", lambda client: list(client.submit("x").download(Path(), names="a.txt"))),
    ],
)
def test_one_text_in_place_of_a_list_is_refused(fake, name, call):
    """Its letters are not tags or files; the error says what to write."""
    with fake.client() as client, pytest.raises(TypeError, match=rf"{name} takes a list. Write {name}=\[.+\]"):
        call(client)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_duration_is_a_timedelta_or_a_number_of_seconds(fake, length):
    """In a submission, wherever it is written."""
    with fake.client() as client:
        client.submit("x", delay=length, expires_in=length)
        client.submit_many([Submission(type="x", delay=length, expires_in=length)])
    assert [(4.0, 4.0)] * 2 == [(one.submission["delay"], one.submission["expires_in"]) for one in fake.jobs.values()]


@pytest.mark.parametrize("none", [0, 0.0, timedelta(0)])
def test_each_timeout_is_a_timedelta_or_a_number_of_seconds(fake, none):
    """Of a job and of a group, and that of retries: an outage then raises `Unavailable`."""
    with Client("http://x.test", http=httpx.Client(transport=fake), retry_timeout=none) as client:
        handle, group = client.submit("x"), client.submit_many([Submission(type="x")])
        for wait in (
            handle.wait,
            group.wait,
            lambda timeout: handle.result(timeout=timeout),
            lambda timeout: list(handle.watch(timeout)),
            lambda timeout: list(group.watch(timeout)),
        ):
            with pytest.raises(StillRunning):
                wait(timeout=none)
        fake.available = False
        with pytest.raises(Unavailable):
            client.submit("x")


@pytest.mark.parametrize("length", ["5", True, math.nan, None])
def test_what_is_no_duration_is_refused(fake, length):
    """At once, not in the next outage."""
    for kind in (Client, AsyncClient):
        with pytest.raises(TypeError, match="retry_timeout takes a timedelta or a number of seconds"):
            kind(retry_timeout=length)
    if length is not None:
        with fake.client() as client:
            with pytest.raises(TypeError, match="delay takes"):
                client.submit("x", delay=length)
            with pytest.raises(TypeError, match="expires_in takes"):
                Submission(type="x", expires_in=length)
            with pytest.raises(TypeError, match="timeout takes"):
                next(client.submit("x").watch(timeout=length))


@pytest.mark.parametrize("moment", ["2026-01-01", 1_767_225_600, datetime(2026, 1, 1)])  # noqa: DTZ001
def test_a_time_needs_a_time_zone(moment):
    """Text and numbers are refused too."""
    with pytest.raises(TypeError, match="run_at takes a datetime with a time zone"):
        Submission(type="x", run_at=moment)


async def test_the_asynchronous_client_checks_the_same(fake):
    """It is the source of the synchronous one."""
    async with fake.async_client() as client:
        with pytest.raises(TypeError, match="tags takes a list"):
            await client.submit("x", tags="nightly")
        with pytest.raises(StillRunning):
            await (await client.submit("x", delay=1)).wait(timeout=timedelta(0))
