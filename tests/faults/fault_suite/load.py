"""The load: submitters and readers on threads of their own, and a probe that tells when all is well again."""

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

from fault_suite.ledger import ENDED, Handed, Ledger

TIMEOUT = httpx.Timeout(5.0, connect=1.0)
CALLS_BACK = 4
"""The end of every fourth job is to be told by a webhook."""
FOLLOWED_EVERY = 0.005
"""Seconds. So often each of two gateways is asked often enough to remember the job, and to answer out of memory."""
OFTEN = 24
"""Looks in a second at two gateways in turn, of which ten at each are enough for that."""
FOLLOWED_FOR = 3.0
"""Seconds for which a job is followed that does not end."""
ANSWERED_WITHIN = 2.5
"""Seconds within which a submission is to be answered."""
LATEST = 4.5
"""Seconds after which it is late on any machine; who asks gives up a little later."""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What the jobs do: the share of each behaviour, of 1,000."""

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
class Told:
    """What a gateway said of a job."""

    etag: str
    document: dict[str, object]


class Load:
    """Hands jobs over at a steady rate and looks at them, while everything around may break."""

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
            urls: Where the gateways are.
            ledger: Takes note of everything.
            rate: Jobs a second.
            seed: Decides what the jobs do.
            mix: The shares of what they may do.
            callback_url: Where some of their ends are to be told.
            first: What the first ones do, whatever the seed.
            options: What each is handed over with, beside its type and params.
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
        #: How many jobs were asked for so often within a second that gateways remembered them.
        self.followed = 0
        #: How many seconds it took to answer each submission; without end for those that were not.
        self.took: list[float] = []

    def is_ours(self, nonce: str) -> bool:
        """Whether this load made it up: what an earlier one left behind may still run."""
        return nonce.startswith(self._run)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hand over and look until the block ends."""
        threads = [threading.Thread(target=self._submit_all, name="submitter")]
        threads += [threading.Thread(target=self._read_all, args=(n,), name=f"reader {n}") for n in range(2)]
        threads.append(threading.Thread(target=self._follow_all, name="follower"))
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

    def submit(self, http: httpx.Client, behave: str, milliseconds: int) -> Handed:
        """Hand one job over, and note what was said."""
        nonce = f"{self._run}-{token_hex(6)}"
        params = {"nonce": nonce, "milliseconds": milliseconds, "behave": behave}
        calls_back = next(self._numbers) % CALLS_BACK == 0
        job = {"type": "chaos", "params": params, **self._options}
        if calls_back:
            job["callback_url"] = self._callback_url
        url = self._chance.choice(self._urls())
        begun = time.monotonic()
        try:
            answer = http.post(f"{url}/v1/jobs", json=job)
        except httpx.HTTPError as error:
            handed, said = Handed(nonce=nonce, behave=behave), type(error).__name__
            if isinstance(error, httpx.ReadTimeout):
                self.took.append(math.inf)
        else:
            body = answer.json()
            accepted = answer.status_code == 202
            job_id = body.get("id") if accepted else body.get("job_id")
            handed = Handed(nonce=nonce, behave=behave, job_id=job_id, accepted=accepted, calls_back=calls_back)
            said = str(body.get("type", "")).rpartition("#")[2]
            self.took.append(time.monotonic() - begun)
        self._ledger.note(handed, said)
        return handed

    def _read_all(self, number: int) -> None:
        chance = random.Random(number)
        with httpx.Client(timeout=TIMEOUT) as http:
            while not self._ended.wait(0.02):
                accepted = self._ledger.accepted[-200:]
                if accepted:
                    self.look(http, chance.choice(accepted), chance.choice(self._urls()))

    def _follow_all(self) -> None:
        """Follow one new job after the other as the most impatient client would, at all gateways in turn."""
        with httpx.Client(timeout=TIMEOUT) as http:
            while not self._ended.wait(0.02):
                for handed in self._ledger.accepted[-1:]:
                    self._follow(http, handed)

    def _follow(self, http: httpx.Client, handed: Handed) -> None:
        begun = time.monotonic()
        told: Told | None = None
        for asked, url in enumerate(cycle(self._urls()), 1):
            told = self._ask(http, handed, url, told) or told
            if asked == OFTEN and time.monotonic() < begun + 1:
                self.followed += 1
            if told and told.document["status"] in ENDED:
                break
            if time.monotonic() > begun + FOLLOWED_FOR:
                return
            if self._ended.wait(FOLLOWED_EVERY):
                return
        for url in self._urls():  # the others know that it has ended
            self._ask(http, handed, url, told)

    def look(self, http: httpx.Client, handed: Handed, url: str) -> dict[str, object] | None:
        """Look at one job, and note what was said."""
        told = self._ask(http, handed, url)
        return told and told.document

    def _ask(self, http: httpx.Client, handed: Handed, url: str, held: Told | None = None) -> Told | None:
        """Ask for what differs from `held`; that nothing does is noted as if all of it had been told again."""
        assert handed.job_id is not None
        before = self._ledger.seen(handed.job_id)
        try:
            answer = http.get(f"{url}/v1/jobs/{handed.job_id}", headers={"If-None-Match": held.etag} if held else {})
        except httpx.HTTPError:
            return None
        told = held if answer.status_code == 304 else None
        if answer.status_code == 200:
            told = Told(etag=answer.headers["ETag"], document=answer.json())
        code = 200 if told else answer.status_code
        self._ledger.read(handed.job_id, code, told.document if told else {}, before=before)
        return told

    def recovered(self, within: float) -> float | None:
        """Return how long it takes until a job is accepted and done in a second; nothing if it takes too long."""
        begun = time.monotonic()
        with httpx.Client(timeout=TIMEOUT) as http:
            while time.monotonic() - begun < within:
                if self._probe(http):
                    return time.monotonic() - begun
                time.sleep(0.1)
        return None

    def _probe(self, http: httpx.Client) -> bool:
        begun = time.monotonic()
        handed = self.submit(http, "well", 5)
        while handed.accepted and time.monotonic() - begun < 1.0:
            document = self.look(http, handed, self._chance.choice(self._urls()))
            if document and document["status"] == "succeeded":
                return True
            time.sleep(0.02)
        return False
