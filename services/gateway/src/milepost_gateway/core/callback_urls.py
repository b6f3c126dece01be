"""Checks callback URLs when a job is submitted. The tracker checks them again before each call."""

import time
from dataclasses import replace

from milepost_contracts.errors import RefusedCallback
from milepost_contracts.http.callback_urls import CallbackPolicy, CallbackUrl
from milepost_contracts.http.problems import ProblemDetail
from milepost_gateway.errors import InvalidSubmission, NotAccepted
from milepost_gateway.ports.host_resolver import HostResolver
from milepost_service.callback_urls import HostNotFound

CACHE_TTL = 10.0
"""Seconds for which a host's check is cached, whatever its outcome: a batch has many jobs and few hosts."""
MAX_CACHED = 1_000


class CallbackUrls:
    """Checks callback URLs for one deployment."""

    def __init__(self, rule: CallbackPolicy, hosts: HostResolver | None) -> None:
        """Check by this policy; without a resolver the deployment sends no webhooks."""
        self._policy = rule
        self._resolver = hosts
        #: The cached checks, by URL without its path: until when they hold, and the error if there was one.
        self._cache: dict[CallbackUrl, tuple[float, Exception | None]] = {}

    async def check(self, url: str) -> None:
        """Return if the URL may be called.

        Raises:
            InvalidSubmission: It may not be called; says why.
            NotAccepted: Its host can't be resolved now.
        """
        if self._resolver is None:
            raise _invalid("this deployment sends no webhooks: it has no MILEPOST_WEBHOOK_KEYS")
        try:
            callback = self._policy.read(url)
            await self._resolve(callback, self._resolver)
        except RefusedCallback as error:
            raise _invalid(str(error)) from error
        except HostNotFound as error:
            raise _invalid(str(error)) if error.permanent else NotAccepted(f"callback_url: {error}") from error

    def host(self, url: str) -> str:
        """Return the host of a URL; empty if the URL is invalid."""
        try:
            return self._policy.read(url).host
        except RefusedCallback:
            return ""

    async def _resolve(self, callback: CallbackUrl, hosts: HostResolver) -> None:
        callback = replace(callback, target="/")
        until, refusal = self._cache.get(callback, (0.0, None))
        if until <= time.monotonic():
            refusal = None
            try:
                await hosts.addresses(callback)
            except (RefusedCallback, HostNotFound) as error:
                refusal = error
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[callback] = (time.monotonic() + CACHE_TTL, refusal)
        if refusal is not None:
            raise refusal.with_traceback(None)  # each raise would lengthen it


def _invalid(why: str) -> InvalidSubmission:
    return InvalidSubmission([ProblemDetail(pointer="/callback_url", detail=why)])
