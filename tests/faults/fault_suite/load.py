"""The load: threads that submit and read, and a probe that detects the recovery."""

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, cycle
from secrets import token_hex

import httpx

from fault_suite.ledger import ENDED, Ledger, Submitted

TIMEOUT = httpx.Timeout(5.0, connect=1.0)
CALLBACK_EVERY = 4
"""Every fourth job has a callback URL."""
POLL_INTERVAL = 0.005
"""Seconds between two polls of one job; at this rate, each of two gateways answers it from its hot cache."""
HOT_POLLS = 24
"""Polls per second at two gateways in turn; ten at each suffice for the hot cache."""
MAX_POLLING = 3.0
"""Seconds after which polling a job that does not end stops."""
ANSWER_TIMEOUT = 2.5
"""Seconds within which a submission must be answered."""
MAX_ANSWER_TIMEOUT = 4.5
"""Seconds after which an answer is late on any machine; the HTTP client times out a little later."""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What the jobs do: the share of each behaviour, per 1,000."""

    raise_once: int = 50
    raise_always: int = 10
    slow: int = 10
    #: Milliseconds.
    slow_takes: int = 5_000

    def draw(self, chance: random.Random) -> tuple[str, int]:
        """Return a behaviour and how many milliseconds it takes."""
        number = chance.randrange(1_000)
        for behave, share in (("raise-once", self.raise_once), ("raise-always", self.raise_always)):
            if number < share:
                return behave, chance.randint(5, 100)
            number -= share
        return "well", self.slow_takes if number < self.slow else chance.randint(5, 500)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A gateway's answer to a status request."""

    etag: str
    document: dict[str, object]


class Load:
    """Submits jobs at a steady rate and reads their status, while faults occur."""

    def __init__(
        self,
        urls: Callable[[], list[str]],
        ledger: Ledger,
        *,
        rate: float,
        seed: int,
        mix: Mix,
        callback_url: str,
        first: Sequence[str] = (),
        options: Mapping[str, object] | None = None,
    ) -> None:
        """Prepare.

        Args:
            urls: Returns the URLs of the gateways.
            ledger: Records everything.
            rate: Jobs per second.
            seed: Seed of the jobs' behaviours.
            mix: The shares of the behaviours.
            callback_url: The callback URL of some of the jobs.
            first: The behaviours of the first jobs.
            options: Fields of each submission besides its type and params.
        """
        self._urls = urls
        self._first = deque(first)
        self._options = options or {}
        self._callback_url = callback_url
        self._numbers = count()
        self._run = token_hex(4)
        self._ledger = ledger
        self._rate = rate
        self._mix = mix
        self._chance = random.Random(seed)
        self._ended = threading.Event()
        #: How many jobs were polled often enough to be answered from the hot cache.
        self.polled_hot = 0
        #: Seconds until each submission was answered; infinite if it was not.
        self.answer_times: list[float] = []

    def is_of_this_load(self, nonce: str) -> bool:
        """Return whether this load created the nonce: jobs of an earlier load may still run."""
        return nonce.startswith(self._run)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Submit and read until the block ends."""
        threads = [threading.Thread(target=self._submit_all, name="submitter")]
        threads += [threading.Thread(target=self._read_all, args=(n,), name=f"reader {n}") for n in range(2)]
        threads.append(threading.Thread(target=self._poll_newest, name="poller"))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def _submit_all(self) -> None:
        with httpx.Client(timeout=TIMEOUT) as http:
            due = time.monotonic()
            while not self._ended.is_set():
                behave, milliseconds = self._mix.draw(self._chance)
                if self._first:
                    behave = self._first.popleft()
                self.submit(http, behave, milliseconds)
                due = max(due + 1 / self._rate, time.monotonic() - 1)
                self._ended.wait(max(0.0, due - time.monotonic()))

    def submit(self, http: httpx.Client, behave: str, milliseconds: int) -> Submitted:
        """Submit one job, and record the answer."""
        nonce = f"{self._run}-{token_hex(6)}"
        params = {"nonce": nonce, "milliseconds": milliseconds, "behave": behave}
        has_callback = next(self._numbers) % CALLBACK_EVERY == 0
        job = {"type": "chaos", "params": params, **self._options}
        if has_callback:
            job["callback_url"] = self._callback_url
        url = self._chance.choice(self._urls())
        begun = time.monotonic()
        try:
            answer = http.post(f"{url}/v1/jobs", json=job)
        except httpx.HTTPError as error:
            submitted, answered = Submitted(nonce=nonce, behave=behave), type(error).__name__
            if isinstance(error, httpx.ReadTimeout):
                self.answer_times.append(math.inf)
        else:
            body = answer.json()
            accepted = answer.status_code == 202
            job_id = body.get("id") if accepted else body.get("job_id")
            submitted = Submitted(
                nonce=nonce, behave=behave, job_id=job_id, accepted=accepted, has_callback=has_callback
            )
            answered = str(body.get("type", "")).rpartition("#")[2]
            self.answer_times.append(time.monotonic() - begun)
        self._ledger.note(submitted, answered)
        return submitted

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
            if time.monotonic() > begun + MAX_POLLING:
                return
            if self._ended.wait(POLL_INTERVAL):
                return
        for url in self._urls():  # the other gateways must know that it has ended
            self._request(http, submitted, url, answer)

    def get(self, http: httpx.Client, submitted: Submitted, url: str) -> dict[str, object] | None:
        """Read one job, and record the answer."""
        answer = self._request(http, submitted, url)
        return answer and answer.document

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

    def recovered(self, within: float) -> float | None:
        """Return the seconds until a new job is accepted and succeeds within a second; None if it takes too long."""
        begun = time.monotonic()
        with httpx.Client(timeout=TIMEOUT) as http:
            while time.monotonic() - begun < within:
                if self._probe(http):
                    return time.monotonic() - begun
                time.sleep(0.1)
        return None

    def _probe(self, http: httpx.Client) -> bool:
        begun = time.monotonic()
        submitted = self.submit(http, "well", 5)
        while submitted.accepted and time.monotonic() - begun < 1.0:
            document = self.get(http, submitted, self._chance.choice(self._urls()))
            if document and document["status"] == "succeeded":
                return True
            time.sleep(0.02)
        return False
