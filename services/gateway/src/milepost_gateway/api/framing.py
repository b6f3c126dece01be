"""The rules of a request's head that llhttp leaves open: each closes a way to smuggle a request or to claim a host."""

import re
from collections.abc import Sequence
from itertools import chain

from milepost_contracts.http.problems import ProblemType

MAX_HEAD = 64 * 1024
"""Maximum size of a request's head or trailers, in bytes; llhttp itself has no limit."""
MAX_TARGET = 16 * 1024
"""Maximum length of a request's target: its path and query."""
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")
_AUTHORITY = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_HANDSHAKE = (b"sec-websocket-version", b"sec-websocket-key")
_HANDSHAKE_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
Headers = Sequence[tuple[bytes, bytes]]


class Fault(Exception):  # noqa: N818 - named as the condition
    """The bytes of the connection are no request that this server answers, so that it closes the connection."""

    def __init__(self, detail: str, kind: ProblemType = ProblemType.MALFORMED_REQUEST) -> None:
        super().__init__(detail)
        self.detail = detail
        self.kind = kind


def too_large(target: bytes) -> Fault:
    """Return the fault of a head that is too large, whose target is this or begins so."""
    if len(target) > MAX_TARGET:
        return Fault(f"The path and query have more than {MAX_TARGET} bytes.", ProblemType.URI_TOO_LONG)
    return Fault(f"The headers have more than {MAX_HEAD} bytes.", ProblemType.HEADERS_TOO_LARGE)


def check_head(method: bytes, target: bytes, version: str, headers: Headers) -> None:
    """Check a complete head; the names of its headers are in lower case.

    Raises:
        Fault: RFC 9112 requires a server to refuse it, or it is larger than allowed.
    """
    if version not in ("1.1", "1.0"):
        raise Fault("Send the request as HTTP/1.1.")
    if method == b"CONNECT":
        raise Fault("This server is no proxy: it has no CONNECT.")
    if len(target) > MAX_TARGET or sum(map(len, chain.from_iterable(headers))) > MAX_HEAD:
        raise too_large(target)
    _check_host(target, version, [value for name, value in headers if name == b"host"])
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings and (version == "1.0" or [coding.lower() for coding in codings] != [b"chunked"]):
        # RFC 9112 §6.1; another server on the way may see another end of such a body.
        raise Fault("The only Transfer-Encoding is chunked, in HTTP/1.1.")


def _check_host(target: bytes, version: str, hosts: Sequence[bytes]) -> None:
    """Check that there is one host (RFC 9112 §3.2); HTTP/1.0 knows none."""
    if len(hosts) != 1 and (hosts or version == "1.1"):
        raise Fault("Send exactly one Host header.")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise Fault("The Host header must be a host name or address, and a port if there is one.")
    named = _AUTHORITY.match(target)
    if named and [named[1].lower()] != [host.lower() for host in hosts]:
        raise Fault("The host in the request's target differs from the Host header.")


def check_handshake(headers: Headers) -> None:
    """Check the head of a WebSocket handshake (RFC 6455 §4.2.1).

    Raises:
        Fault: It is of another version, or has no valid key.
    """
    versions, keys = ([value for name, value in headers if name == header] for header in _HANDSHAKE)
    if versions != [b"13"] or len(keys) != 1 or not _HANDSHAKE_KEY.fullmatch(keys[0]):
        raise Fault("A WebSocket handshake needs Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key of 16 bytes.")


def without_upgrade(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """Return the bytes of this head without its offer to upgrade."""
    lines = (b"%s: %s\r\n" % header for header in headers if header[0] != b"upgrade")
    return b"%s %s HTTP/%s\r\n%s\r\n" % (method, target, version.encode(), b"".join(lines))
