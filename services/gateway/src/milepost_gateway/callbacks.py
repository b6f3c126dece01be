"""Whether a callback URL may be called, as far as can be known when a job is handed over; whoever calls looks again."""

import time
from dataclasses import replace

from milepost_contracts.errors import RefusedCallback
from milepost_contracts.problems import ProblemDetail
from milepost_contracts.webhooks import Callback, CallbackRule
from milepost_gateway.errors import InvalidSubmission, NotAccepted
from milepost_gateway.ports import Hosts
from milepost_service.callbacks import HostNotFound

KNOWN_FOR = 10.0
"""Seconds for which a host is not looked for again, found or not: a batch has many jobs, and few hosts."""
MOST_KNOWN = 1_000


class Callbacks:
    """Checks callback URLs for one deployment."""

    def __init__(self, rule: CallbackRule, hosts: Hosts | None) -> None:
        """Check by this rule; without anybody who finds hosts, there are no webhooks."""
        self._rule = rule
        self._hosts = hosts
        #: What was found out, by URL without its path, and until when it holds.
        self._known: dict[Callback, tuple[float, Exception | None]] = {}

    async def check(self, url: str) -> None:
        """Return if the URL may be called.

        Raises:
            InvalidSubmission: It may not; says why.
            NotAccepted: Its host can't be found now.
        """
        if self._hosts is None:
            raise _unfit("this deployment sends no webhooks: it has no MILEPOST_WEBHOOK_KEYS")
        try:
            callback = self._rule.read(url)
            await self._look_for(callback, self._hosts)
        except RefusedCallback as error:
            raise _unfit(str(error)) from error
        except HostNotFound as error:
            raise _unfit(str(error)) if error.for_certain else NotAccepted(f"of its callback_url: {error}") from error

    def host(self, url: str) -> str:
        """Return where a URL leads; nothing if it can't be read."""
        try:
            return self._rule.read(url).host
        except RefusedCallback:
            return ""

    async def _look_for(self, callback: Callback, hosts: Hosts) -> None:
        callback = replace(callback, target="/")
        until, verdict = self._known.get(callback, (0.0, None))
        if until <= time.monotonic():
            verdict = None
            try:
                await hosts.addresses(callback)
            except (RefusedCallback, HostNotFound) as error:
                verdict = error
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[callback] = (time.monotonic() + KNOWN_FOR, verdict)
        if verdict is not None:
            raise verdict.with_traceback(None)  # or each raise would make it longer


def _unfit(why: str) -> InvalidSubmission:
    return InvalidSubmission([ProblemDetail(pointer="/callback_url", detail=why)])
