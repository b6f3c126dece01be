"""The resolver and the settings of callback URLs."""

import socket
import threading
from datetime import timedelta
from ipaddress import ip_address, ip_network

import pytest

from milepost_contracts.errors import RefusedCallback
from milepost_contracts.http.callback_urls import CallbackPolicy, parse_ports
from milepost_service.callback_urls import CallbackSettings, HostNotFound, Resolver
from milepost_service.settings import SettingsError, load

POLICY = CallbackPolicy(ports=parse_ports("443"))
CALLBACK = POLICY.read("https://example.com/")


def resolver(find):
    return Resolver(POLICY, find=find)


async def test_one_private_address_refuses_the_host():
    """All addresses of the host are checked."""
    assert [ip_address("93.184.215.14")] == await resolver(lambda _: ["93.184.215.14"]).addresses(CALLBACK)
    with pytest.raises(RefusedCallback):
        await resolver(lambda _: ["93.184.215.14", "10.0.0.1"]).addresses(CALLBACK)


@pytest.mark.parametrize(
    "error, expected_permanent",
    [
        (socket.gaierror(socket.EAI_NONAME, "no"), True),
        (socket.gaierror(socket.EAI_AGAIN, "later"), False),
        (UnicodeError("label too long"), True),
    ],
)
async def test_an_unknown_host_is_permanent_and_a_failed_lookup_is_not(error, expected_permanent):
    """The first is the caller's error, the second may succeed later."""

    def find(_):
        raise error

    with pytest.raises(HostNotFound) as caught:
        await resolver(find).addresses(CALLBACK)
    assert expected_permanent == caught.value.permanent


async def test_a_slow_name_server_times_out(monkeypatch):
    """Its threads do not block other look-ups."""
    monkeypatch.setattr("milepost_service.callback_urls.RESOLVE_TIMEOUT", timedelta(milliseconds=50))
    release = threading.Event()
    try:
        with pytest.raises(HostNotFound, match="in time"):
            await resolver(lambda _: [str(release.wait(10))]).addresses(CALLBACK)
    finally:
        release.set()


async def test_numeric_spellings_of_loopback_are_refused():
    """The real resolver parses them as the C library does."""
    for host in ("127.1", "0x7f000001", "2130706433", "localhost"):
        with pytest.raises(RefusedCallback, match="private"):
            await Resolver(POLICY).addresses(POLICY.read(f"https://{host}/"))


def test_settings_are_comma_separated_lists(monkeypatch):
    """Networks, ports and keys are each one variable."""
    monkeypatch.setenv("MILEPOST_WEBHOOK_NETWORKS", "10.1.0.0/16, ::1/128")
    monkeypatch.setenv("MILEPOST_WEBHOOK_PORTS", "443,8000-8999")
    monkeypatch.setenv("MILEPOST_WEBHOOK_KEYS", f"1:{'ab' * 32}")
    monkeypatch.setenv("MILEPOST_ALLOW", "guest")
    settings = load(CallbackSettings)
    assert (ip_network("10.1.0.0/16"), ip_network("::1/128")) == settings.callback_policy.networks
    assert ((443, 443), (8000, 8999)) == settings.callback_policy.ports
    assert settings.signing is not None


@pytest.mark.parametrize(
    "name, value",
    [
        ("MILEPOST_WEBHOOK_NETWORKS", "10.1.0.1/16"),
        ("MILEPOST_WEBHOOK_NETWORKS", "inside"),
        ("MILEPOST_WEBHOOK_NETWORKS", "::ffff:10.0.0.0/104"),
        ("MILEPOST_WEBHOOK_PORTS", ""),
        ("MILEPOST_WEBHOOK_PORTS", "https"),
        ("MILEPOST_WEBHOOK_KEYS", "1:abcd"),
        ("MILEPOST_WEBHOOK_KEYS", "secret"),
        ("MILEPOST_WEBHOOK_KEYS", ","),
        ("MILEPOST_WEBHOOK_KEYS", f"-5:{'ab' * 32}"),
    ],
)
def test_an_invalid_setting_is_reported_without_its_value(monkeypatch, name, value):
    """The error has the name of the setting and no secret."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as caught:
        load(CallbackSettings)
    assert "secret" not in str(caught.value) or "NUMBER:HEX" in str(caught.value)
