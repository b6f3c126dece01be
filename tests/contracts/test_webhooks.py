"""Where a callback URL may lead: nowhere inside, but where the operator says so."""

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import SAMPLES

from milepost_contracts.envelope import encode
from milepost_contracts.errors import RefusedCallback, WeakKeyring
from milepost_contracts.events import JobSucceeded
from milepost_contracts.webhooks import PORTS, CallbackRule, parse_ports, parse_webhook_keys, render

RULE = CallbackRule(ports=parse_ports(PORTS))
OWN = CallbackRule(ports=parse_ports("1-65535"), networks=(ip_network("10.1.0.0/16"), ip_network("::1/128")))
HTTPS = RULE.read("https://example.com/hooks")


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
def test_a_url_that_is_more_than_it_seems_is_refused(url):
    """Before anybody looks for its host."""
    with pytest.raises(RefusedCallback):
        RULE.read(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - it is to be refused
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
def test_no_address_inside_is_connected_to(address):
    """However it is written: mapped, translated, link-local or for everybody at once."""
    with pytest.raises(RefusedCallback):
        RULE.take(HTTPS, address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:93.184.215.14"])
def test_a_global_address_is_connected_to(address):
    """That is what webhooks are for."""
    assert RULE.take(HTTPS, address).is_global


def test_a_network_of_ones_own_is_reached_by_name_only():
    """By http too; and http leads nowhere else."""
    http = OWN.read("http://inside:9000")
    assert ip_address("10.1.2.3") == OWN.take(http, "10.1.2.3") == OWN.take(HTTPS, "::ffff:10.1.2.3")
    for outside in ("10.2.0.1", "93.184.215.14", "169.254.169.254"):
        with pytest.raises(RefusedCallback):
            OWN.take(http, outside)


def test_a_url_is_taken_apart_once():
    """What is connected to is what was checked."""
    callback = OWN.read("https://[2001:DB8::7]:8443?a=b")
    assert ("https", "2001:db8::7", 8443, "/?a=b") == (callback.scheme, callback.host, callback.port, callback.target)
    assert 443 == OWN.read("https://example.com").port


@given(st.text(max_size=60).map(lambda text: f"https://{text}"))
def test_whatever_is_written_is_read_or_refused(url):
    """With a host of letters, digits, dots and hyphens, or an address; and a target without blanks."""
    try:
        callback = OWN.read(url)
    except RefusedCallback:
        return
    assert set(callback.host) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-:")
    assert callback.target.startswith("/")
    assert callback.target.isascii()
    assert callback.target.isprintable()
    assert " " not in callback.target


@pytest.mark.parametrize("text", ["0", "70000", "9-8", "http", "1-", "443;80"])
def test_ports_that_are_none_are_refused(text):
    """With an example of how they are written."""
    with pytest.raises(ValueError, match="such as 443"):
        parse_ports(text)


def test_secrets_follow_from_the_keys_and_the_tenant():
    """Nothing has to be stored, and no tenant can tell another's."""
    keys = parse_webhook_keys(f"2:{'ab' * 32},1:{'cd' * 32}")
    assert keys.secrets("one") == keys.secrets("one") != keys.secrets("two")
    assert keys.secrets("one")[1:] == parse_webhook_keys(f"1:{'cd' * 32}").secrets("one")
    assert all(secret.startswith("whsec_") for secret in keys.secrets("one"))
    assert parse_webhook_keys("") is None
    for weak in ("1:abcd", "nonsense", f"1:{'ab' * 32},1:{'cd' * 32}"):
        with pytest.raises(WeakKeyring):
            parse_webhook_keys(weak)


def test_the_body_is_the_event_as_it_travels_and_a_timestamp():
    """The same bytes as at the broker and in the streams, but for that."""
    event = next(sample for sample in SAMPLES if isinstance(sample, JobSucceeded))
    told = json.loads(render(event))
    assert event.time.isoformat().replace("+00:00", "Z") == told.pop("timestamp") == told["time"]
    assert json.loads(encode(event)) == told
