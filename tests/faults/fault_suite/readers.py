"""Clients that read while faults occur: at random, as impatiently as they may, and by streams."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle

import httpx

from fault_suite.ledger import ENDED, Ledger, Submitted
from fault_suite.streams import Position, server_sent_events

TIMEOUT = httpx.Timeout(5.0, connect=1.0)
POLL_INTERVAL = 0.005
"""Seconds between two polls of one job; at this rate, each of two gateways answers it from its hot cache."""
HOT_POLLS = 24
"""Polls per second at two gateways in turn; ten at each suffice for the hot cache."""
MAX_FOLLOWING = 3.0
"""Seconds after which polling or streaming a job that does not end stops."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A gateway's answer to a status request."""

    etag: str
    document: dict[str, object]


class Readers:
    """Read the jobs of a ledger, and record what they see there."""

    def __init__(self, urls: Callable[[], list[str]], ledger: Ledger, ended: threading.Event) -> None:
        """Prepare.

        Args:
            urls: Returns the URLs of the gateways.
            ledger: Has the jobs, and records everything.
            ended: Set when the readers are to stop.
        """
        self._urls = urls
        self._ledger = ledger
        self._ended = ended
        #: How many jobs were polled often enough to be answered from the hot cache.
        self.polled_hot = 0

    def threads(self) -> list[threading.Thread]:
        """Return the threads of all readers."""
        made = [threading.Thread(target=self._read_all, args=(n,), name=f"reader {n}") for n in range(2)]
        made.append(threading.Thread(target=self._poll_newest, name="poller"))
        made.append(threading.Thread(target=self._stream_newest, name="streamer"))
        return made

    def get(self, http: httpx.Client, submitted: Submitted, url: str) -> dict[str, object] | None:
        """Read one job, and record the answer."""
        answer = self._request(http, submitted, url)
        return None if answer is None else answer.document

    def _read_all(self, number: int) -> None:
        chance = random.Random(number)
        with httpx.Client(timeout=TIMEOUT) as http:
            while not self._ended.wait(0.02):
                accepted = self._ledger.accepted[-200:]
                if accepted:
                    self.get(http, chance.choice(accepted), chance.choice(self._urls()))

    def _poll_newest(self) -> None:
        """Poll one new job after the other as the most impatient client would, at all gateways in turn."""
        with httpx.Client(timeout=TIMEOUT) as http:
            while not self._ended.wait(0.02):
                for submitted in self._ledger.accepted[-1:]:
                    self._poll(http, submitted)

    def _poll(self, http: httpx.Client, submitted: Submitted) -> None:
        begun = time.monotonic()
        answer: Answer | None = None
        for polls, url in enumerate(cycle(self._urls()), 1):
            answer = self._request(http, submitted, url, answer) or answer
            if polls == HOT_POLLS and time.monotonic() < begun + 1:
                self.polled_hot += 1
            if answer and answer.document["status"] in ENDED:
                break
            if time.monotonic() > begun + MAX_FOLLOWING:
                return
            if self._ended.wait(POLL_INTERVAL):
                return
        for url in self._urls():  # the other gateways must know that it has ended
            self._request(http, submitted, url, answer)

    def _request(
        self, http: httpx.Client, submitted: Submitted, url: str, known: Answer | None = None
    ) -> Answer | None:
        """Request a job unless it equals `known`; a 304 is recorded like the same answer again."""
        assert submitted.job_id is not None
        before = self._ledger.seen(submitted.job_id)
        try:
            response = http.get(
                f"{url}/v1/jobs/{submitted.job_id}", headers={"If-None-Match": known.etag} if known else {}
            )
        except httpx.HTTPError:
            return None
        answer = known if response.status_code == 304 else None
        if response.status_code == 200:
            answer = Answer(etag=response.headers["ETag"], document=response.json())
        code = 200 if answer else response.status_code
        self._ledger.read(submitted.job_id, code, answer.document if answer else {}, before=before)
        return answer

    def _stream_newest(self) -> None:
        """Read the stream of one new job after the other."""
        with httpx.Client(timeout=httpx.Timeout(MAX_FOLLOWING, connect=1.0)) as http:
            while not self._ended.wait(0.02):
                for submitted in self._ledger.accepted[-1:]:
                    self._follow(http, submitted)

    def _follow(self, http: httpx.Client, submitted: Submitted) -> None:
        """Read a job's events to its end; resume a lost stream at another gateway."""
        gives_up_at = time.monotonic() + MAX_FOLLOWING
        position = Position()
        for url in cycle(self._urls()):
            if position.over or time.monotonic() > gives_up_at or self._ended.wait(POLL_INTERVAL):
                return
            headers = {"Last-Event-ID": position.cursor} if position.cursor else {}
            try:
                with http.stream("GET", f"{url}/v1/jobs/{submitted.job_id}/events", headers=headers) as response:
                    if response.status_code == 200:
                        position = self._read_events(response, position, gives_up_at)
            except httpx.HTTPError:
                continue

    def _read_events(self, response: httpx.Response, position: Position, gives_up_at: float) -> Position:
        for event in server_sent_events(response):
            if "subject" in event.data:  # a gap is no event of the job
                position = self._ledger.read_event(position, event.data)
            position = replace(position, cursor=event.cursor)
            if time.monotonic() > gives_up_at:
                break
        return position
