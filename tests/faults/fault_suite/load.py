"""The load: threads that submit, cancel and read, and a probe that detects the recovery."""

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from secrets import token_hex

import httpx

from fault_suite.ledger import Ledger, Submitted
from fault_suite.readers import TIMEOUT, Readers

CALLBACK_EVERY = 4
"""Every fourth job has a callback URL."""
MAX_CANCEL_DELAY = 0.4
"""Seconds after which a job is canceled, at most; half of those jobs are canceled at once."""
ANSWER_TIMEOUT = 2.5
"""Seconds within which a submission must be answered."""
MAX_ANSWER_TIMEOUT = 4.5
"""Seconds after which an answer is late on any machine; the HTTP client times out a little later."""
TYPES = {
    "other-queue": "chaos-elsewhere",
    "new-type": "chaos-new",
    "versioned": "chaos-versioned",
    **dict.fromkeys(("fork", "shell", "close-stderr"), "chaos-odd"),
    **dict.fromkeys(("task-group", "swallow-cancel", "stop-loop"), "chaos-odd-async"),
}
"""The job type of each behaviour that is not of the type `chaos`."""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What the jobs do: the share of each behaviour, per 1,000."""

    raise_once: int = 50
    raise_always: int = 10
    slow: int = 10
    #: Milliseconds.
    slow_takes: int = 5_000
    #: How many are canceled soon after their submission.
    cancel: int = 40

    def draw(self, chance: random.Random) -> tuple[str, int]:
        """Return a behaviour and how many milliseconds it takes."""
        number = chance.randrange(1_000)
        for behave, share in (("raise-once", self.raise_once), ("raise-always", self.raise_always)):
            if number < share:
                return behave, chance.randint(5, 100)
            number -= share
        return "well", self.slow_takes if number < self.slow else chance.randint(5, 500)


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
        self._cancel_chance = random.Random(-seed)
        self._cancels: deque[tuple[float, Submitted]] = deque()
        self._ended = threading.Event()
        self.readers = Readers(urls, ledger, self._ended)
        #: Seconds until each submission was answered; infinite if it was not.
        self.answer_times: list[float] = []

    @property
    def refusals(self) -> int:
        """How many submissions were not accepted."""
        return self._ledger.refused.total()

    def is_of_this_load(self, nonce: str) -> bool:
        """Return whether this load created the nonce: jobs of an earlier load may still run."""
        return nonce.startswith(self._run)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Submit, cancel and read until the block ends."""
        threads = [threading.Thread(target=self._submit_all, name="submitter")]
        threads += [threading.Thread(target=self._cancel_some, name="canceler"), *self.readers.threads()]
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
                submitted = self.submit(http, behave, milliseconds)
                if self._cancel_chance.randrange(1_000) < self._mix.cancel and behave == "well":
                    delay = max(0.0, self._cancel_chance.uniform(-MAX_CANCEL_DELAY, MAX_CANCEL_DELAY))
                    self._cancels.append((time.monotonic() + delay, submitted))
                due = max(due + 1 / self._rate, time.monotonic() - 1)
                self._ended.wait(max(0.0, due - time.monotonic()))

    def _cancel_some(self) -> None:
        with httpx.Client(timeout=TIMEOUT) as http:
            while not self._ended.wait(0.02):
                while self._cancels and self._cancels[0][0] <= time.monotonic():
                    self.cancel(http, self._cancels.popleft()[1])

    def submit(
        self,
        http: httpx.Client,
        behave: str,
        milliseconds: int,
        *,
        more_params: Mapping[str, object] | None = None,
        fields: Mapping[str, object] | None = None,
    ) -> Submitted:
        """Submit one job, and record the answer."""
        nonce = f"{self._run}-{token_hex(6)}"
        params = {"nonce": nonce, "milliseconds": milliseconds, "behave": behave, **(more_params or {})}
        has_callback = next(self._numbers) % CALLBACK_EVERY == 0
        job = {"type": TYPES.get(behave, "chaos"), "params": params, **self._options, **(fields or {})}
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

    def cancel(self, http: httpx.Client, submitted: Submitted) -> None:
        """Request the cancel of a job, if it has an id; without an answer, it may be canceled or not."""
        if submitted.job_id:
            self._ledger.note_cancel(submitted.job_id)
            with suppress(httpx.HTTPError):
                http.post(f"{self._cancel_chance.choice(self._urls())}/v1/jobs/{submitted.job_id}/cancel")

    def get(self, http: httpx.Client, submitted: Submitted, url: str) -> dict[str, object] | None:
        """Read one job, and record the answer."""
        return self.readers.get(http, submitted, url)

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
