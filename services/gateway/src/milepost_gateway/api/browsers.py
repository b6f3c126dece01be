"""What a web page may make a browser do here: refuses names that may be rebound, and writes of other origins.

Clients that are no browsers send neither `Origin` nor `Sec-Fetch-Site`, and name a host that they were given.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from starlette.types import Scope

from milepost_contracts.http.problems import ProblemType

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?")
UNKNOWN_HOST = (
    ProblemType.UNKNOWN_HOST,
    "This gateway does not answer for the name in the Host header. Add the name to MILEPOST_HOSTS.",
)
CROSS_ORIGIN = (
    ProblemType.CROSS_ORIGIN,
    "A page of another origin sent this. Add its origin to MILEPOST_CORS_ORIGINS to allow it.",
)
Refusal = tuple[ProblemType, str]


@dataclass(frozen=True, kw_only=True)
class BrowserPolicy:
    """Whom a gateway answers when the client may be a browser."""

    #: Names in the `Host` header, in lower case; `None` for any.
    hosts: frozenset[str] | None = None
    #: Origins of other sites whose pages may write; `*` for any.
    origins: frozenset[str] = frozenset()

    def refusal(self, scope: Scope) -> Refusal | None:
        """Return why a request or handshake is refused, or nothing.

        A page may read what has its own origin. DNS rebinding makes this gateway have it, under a name of the
        attacker's. So a name must be known, while an address or `localhost` can't be rebound.
        """
        host, origins, sites = b"", [], []
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origins.append(value)
            elif name == b"sec-fetch-site":
                sites.append(value)
        if self.hosts is not None and host and not _is_known(host, self.hosts):
            return UNKNOWN_HOST
        if not origins and not sites:
            return None
        if scope["type"] == "http" and scope["method"] in _SAFE_METHODS:
            return None
        return None if self._may_write(scope, origins, sites) else CROSS_ORIGIN

    def _may_write(self, scope: Scope, origins: list[bytes], sites: list[bytes]) -> bool:
        """Whether no page of another origin sent this, or one that may.

        In the order of Go's `http.CrossOriginProtection`. Browsers send `Sec-Fetch-Site` to https and loopback only;
        a proxy may have changed the host otherwise. A page can't set either header, nor `X-Forwarded-Host`.
        """
        named = [origin.decode("latin-1").lower() for origin in origins]
        if "*" in self.origins or (named and self.origins.issuperset(named)):
            return True
        if sites:
            return {b"same-origin", b"none"}.issuperset(sites)
        hosts = set(_hosts(scope))
        return all(hosts & _authorities(origin) for origin in named)


@lru_cache(maxsize=1_000)
def _is_known(header: bytes, hosts: frozenset[str]) -> bool:
    name = host_name(header.decode("latin-1"))
    return name == "localhost" or name in hosts or _is_address(name)


def host_name(authority: str) -> str:
    """Return the name or address in `name[:port]`, in lower case, without the root's dot and the brackets of IPv6."""
    bracketed = _BRACKETED.fullmatch(authority)
    return bracketed[1].lower() if bracketed else authority.partition(":")[0].removesuffix(".").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _hosts(scope: Scope) -> Iterable[str]:
    """Return the hosts for which the page's request was meant: before a proxy changed it, and after."""
    for name, value in scope["headers"]:
        if name in (b"host", b"x-forwarded-host"):
            yield from (part.strip().lower() for part in value.decode("latin-1").split(","))


def _authorities(origin: str) -> set[str]:
    """Return an origin's host and port, with and without the default port of its scheme; nothing for `null`."""
    scheme, separator, authority = origin.partition("://")
    if not separator:
        return set()
    return {authority, authority + _DEFAULT_PORTS.get(scheme, "")}
