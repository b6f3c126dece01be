"""A callback URL leads to no private address, except in networks that the operator allows."""

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import SAMPLES

from milepost_contracts.errors import RefusedCallback, WeakKeyring
from milepost_contracts.http.callback_urls import DEFAULT_PORTS, CallbackPolicy, parse_ports
from milepost_contracts.http.webhooks import parse_webhook_keys, render
from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import JobSucceeded

POLICY = CallbackPolicy(ports=parse_ports(DEFAULT_PORTS))
NETWORK_POLICY = CallbackPolicy(
    ports=parse_ports("1-65535"), networks=(ip_network("10.1.0.0/16"), ip_network("::1/128"))
)
HTTPS = POLICY.read("https://example.com/hooks")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://example.com:22/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:٤٤٣/",
        "https://example.com\\@10.0.0.1/",
        "https://example.com#@10.0.0.1/",
        "https://exa mple.com/",
        "https://bücher.example/",
        "https://example.com/\r\nX-Evil: yes",
        "https:///path",
        "https://",
        "//example.com/",
        "example.com",
        "",
        "HTTPS:example.com",
        f"https://example.com/{'a' * 1000}",
    ],
)
def test_an_unsafe_or_ambiguous_url_is_refused(url):
    """It is refused before its host is resolved."""
    with pytest.raises(RefusedCallback):
        POLICY.read(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - must be refused
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::10.0.0.1",
        "2002:7f00:1::",
        "fec0::1",
        "3fff::1",
        "168.63.129.16",
    ],
)
def test_private_addresses_are_refused(address):
    """This includes mapped, translated, link-local and multicast addresses."""
    with pytest.raises(RefusedCallback):
        POLICY.take(HTTPS, address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:93.184.215.14"])
def test_global_addresses_are_accepted(address):
    """Webhooks go there."""
    assert POLICY.take(HTTPS, address).is_global


def test_an_allowed_network_is_reached_and_no_other():
    """It may be reached by http; an http URL may lead nowhere else."""
    http = NETWORK_POLICY.read("http://inside:9000")
    assert (
        ip_address("10.1.2.3") == NETWORK_POLICY.take(http, "10.1.2.3") == NETWORK_POLICY.take(HTTPS, "::ffff:10.1.2.3")
    )
    for outside in ("10.2.0.1", "93.184.215.14", "169.254.169.254"):
        with pytest.raises(RefusedCallback):
            NETWORK_POLICY.take(http, outside)


def test_a_url_is_parsed_once():
    """The connection goes to the host and port that were checked."""
    callback = NETWORK_POLICY.read("https://[2001:DB8::7]:8443?a=b")
    assert ("https", "2001:db8::7", 8443, "/?a=b") == (callback.scheme, callback.host, callback.port, callback.target)
    assert 443 == NETWORK_POLICY.read("https://example.com").port


@given(st.text(max_size=60).map(lambda text: f"https://{text}"))
def test_any_text_is_parsed_or_refused(url):
    """A host has only letters, digits, dots and hyphens, or is an address; a target has no blanks."""
    try:
        callback = NETWORK_POLICY.read(url)
    except RefusedCallback:
        return
    assert set(callback.host) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-:")
    assert callback.target.startswith("/")
    assert callback.target.isascii()
    assert callback.target.isprintable()
    assert " " not in callback.target


@pytest.mark.parametrize("text", ["0", "70000", "9-8", "http", "1-", "443;80"])
def test_invalid_ports_are_refused(text):
    """The error has an example."""
    with pytest.raises(ValueError, match="such as 443"):
        parse_ports(text)


def test_webhook_secrets_are_derived_from_the_keys_and_the_tenant():
    """They are not stored, and a tenant cannot compute another tenant's."""
    keys = parse_webhook_keys(f"2:{'ab' * 32},1:{'cd' * 32}")
    assert keys.secrets("one") == keys.secrets("one") != keys.secrets("two")
    assert keys.secrets("one")[1:] == parse_webhook_keys(f"1:{'cd' * 32}").secrets("one")
    assert all(secret.startswith("whsec_") for secret in keys.secrets("one"))
    assert parse_webhook_keys("") is None
    for weak in ("1:abcd", "nonsense", f"1:{'ab' * 32},1:{'cd' * 32}"):
        with pytest.raises(WeakKeyring):
            parse_webhook_keys(weak)


def test_a_webhook_body_is_the_event_and_a_timestamp():
    """All other fields are as they are at the broker and in the streams."""
    event = next(sample for sample in SAMPLES if isinstance(sample, JobSucceeded))
    body = json.loads(render(event))
    assert event.time.isoformat().replace("+00:00", "Z") == body.pop("timestamp") == body["time"]
    assert json.loads(encode(event)) == body
