"""Which URLs may be called back, and which addresses they may resolve to."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from milepost_contracts.errors import RefusedCallback
from milepost_contracts.values import MAX_CALLBACK_URL

DEFAULT_PORTS = "80,443,8443"
"""The ports that callback URLs may have by default."""

Address = IPv4Address | IPv6Address

Network = IPv4Network | IPv6Network

PortRange = tuple[int, int]

_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253})(?::([0-9]{1,5}))?([/?][!-~]*)?")

_SPECIAL: tuple[Network, ...] = (
    IPv4Network("168.63.129.16/32"),  # Azure's virtual public IP, with the metadata of its machines
    IPv6Network("3fff::/20"),  # documentation, RFC 9637
)

_MAPPED = IPv6Network("::ffff:0:0/96")

_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, kw_only=True)
class CallbackUrl:
    """A parsed callback URL: parsed once, so that what is checked is what is connected to."""

    scheme: str
    #: A name, or an address without brackets.
    host: str
    port: int
    #: Path and query.
    target: str


@dataclass(frozen=True, kw_only=True)
class CallbackPolicy:
    """The networks and ports that callback URLs may lead to."""

    #: Private networks that they may lead into, also by http.
    networks: tuple[Network, ...] = ()
    #: The first and the last of each range.
    ports: tuple[PortRange, ...] = ()

    def read(self, url: str) -> CallbackUrl:
        """Parse a URL.

        Raises:
            RefusedCallback: It may not be called; says why.
        """
        found = _URL.fullmatch(url)
        if found is None or len(url) > MAX_CALLBACK_URL or "\\" in url or "#" in url:
            raise RefusedCallback(f"{_why_not(url)}; a valid URL is https://example.com/hooks?job=7")
        scheme, host, port, target = found.groups()
        if scheme == "http" and not self.networks:
            raise RefusedCallback("it must begin with https://")
        callback = CallbackUrl(
            scheme=scheme,
            host=host.strip("[]").lower(),
            port=int(port) if port else {"http": 80, "https": 443}[scheme],
            target=target if target and target.startswith("/") else f"/{target or ''}",
        )
        if not any(first <= callback.port <= last for first, last in self.ports):
            raise RefusedCallback(f"callbacks to port {callback.port} are not allowed here")
        return callback

    def take(self, callback: CallbackUrl, address: str) -> Address:
        """Return an address that the host resolved to, if it may be connected to.

        Raises:
            RefusedCallback: It may not.
        """
        found = _unwrapped(ip_address(address.partition("%")[0]))
        if any(found in network for network in self.networks if network.version == found.version):
            return found
        if callback.scheme == "http":
            raise RefusedCallback("http is only allowed into configured networks; use https")
        if not found.is_global or found.is_multicast or found.is_reserved or _is_special(found):
            raise RefusedCallback("its host is in a private or special network")
        return found


def _why_not(url: str) -> str:
    if len(url) > MAX_CALLBACK_URL:
        return f"it has more than {MAX_CALLBACK_URL} characters"
    if not re.fullmatch(r"[!-~]*", url) or "\\" in url:
        return "it has spaces, backslashes or characters beyond ASCII"
    if not url.startswith(("https://", "http://")):
        return "it does not begin with https://"
    if "#" in url:
        return "it has a fragment"
    authority = re.split(r"[/?]", url.partition("://")[2], maxsplit=1)[0]
    return "it has a user or a password" if "@" in authority else "its host or port is invalid"


def _is_special(address: Address) -> bool:
    """Whether it is internal although it counts as global, or is reserved but unknown as such before Python 3.13."""
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return site_local or any(address in network for network in _SPECIAL if network.version == address.version)


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that is embedded in an IPv6 address, or else the address itself."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return IPv4Address(address.packed[-4:])
        teredo = address.teredo
        return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)
    return address


def parse_ports(text: str) -> tuple[PortRange, ...]:
    """Read `443,8000-8999`.

    Raises:
        ValueError: It is not such a list.
    """
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= 65_535:  # noqa: PLR2004 - the highest port
            raise ValueError(f"{part!r} is not a port or a range of ports, such as 443 or 8000-8999")
        found.append((first, last))
    return tuple(found)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Read `10.1.0.0/16,fd00::/8`.

    Raises:
        ValueError: It is not such a list.
    """
    found = tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    for network in found:
        if isinstance(network, IPv6Network) and network.overlaps(_MAPPED):
            raise ValueError(f"{network} contains IPv4 addresses: write those as IPv4")
    return found
