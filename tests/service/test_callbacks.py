"""Looking where a callback URL leads, and the settings that say where it may."""

import socket
import threading
from datetime import timedelta
from ipaddress import ip_address, ip_network

import pytest

from milepost_contracts.errors import RefusedCallback
from milepost_contracts.webhooks import CallbackRule, parse_ports
from milepost_service.callbacks import CallbackSettings, HostNotFound, Lookup
from milepost_service.settings import SettingsError, load

RULE = CallbackRule(ports=parse_ports("443"))
CALLBACK = RULE.read("https://example.com/")


def lookup(find):
    return Lookup(RULE, find=find)


async def test_every_address_is_looked_at():
    """One that is inside is enough to refuse all."""
    assert [ip_address("93.184.215.14")] == await lookup(lambda _: ["93.184.215.14"]).addresses(CALLBACK)
    with pytest.raises(RefusedCallback):
        await lookup(lambda _: ["93.184.215.14", "10.0.0.1"]).addresses(CALLBACK)


@pytest.mark.parametrize(
    "error, certain",
    [
        (socket.gaierror(socket.EAI_NONAME, "no"), True),
        (socket.gaierror(socket.EAI_AGAIN, "later"), False),
        (UnicodeError("label too long"), True),
    ],
)
async def test_a_host_that_is_not_found_is_told_apart_from_a_name_server_that_is_away(error, certain):
    """The one is the caller's mistake, the other is nobody's."""

    def find(_):
        raise error

    with pytest.raises(HostNotFound) as caught:
        await lookup(find).addresses(CALLBACK)
    assert certain == caught.value.for_certain


async def test_a_name_server_that_hangs_is_not_waited_for(monkeypatch):
    """Nor do its threads hold up others."""
    monkeypatch.setattr("milepost_service.callbacks.FOUND_WITHIN", timedelta(milliseconds=50))
    let_go = threading.Event()
    try:
        with pytest.raises(HostNotFound, match="in time"):
            await lookup(lambda _: [str(let_go.wait(10))]).addresses(CALLBACK)
    finally:
        let_go.set()


async def test_numbers_in_disguise_lead_where_they_lead():
    """The real resolver reads them as the C library does."""
    for host in ("127.1", "0x7f000001", "2130706433", "localhost"):
        with pytest.raises(RefusedCallback, match="private"):
            await Lookup(RULE).addresses(RULE.read(f"https://{host}/"))


def test_settings_are_read_as_lists(monkeypatch):
    """As an operator writes them."""
    monkeypatch.setenv("MILEPOST_WEBHOOK_NETWORKS", "10.1.0.0/16, ::1/128")
    monkeypatch.setenv("MILEPOST_WEBHOOK_PORTS", "443,8000-8999")
    monkeypatch.setenv("MILEPOST_WEBHOOK_KEYS", f"1:{'ab' * 32}")
    read = load(CallbackSettings)
    assert (ip_network("10.1.0.0/16"), ip_network("::1/128")) == read.callbacks.networks
    assert ((443, 443), (8000, 8999)) == read.callbacks.ports
    assert read.signing is not None


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
def test_a_setting_that_does_not_fit_is_one_sentence(monkeypatch, name, value):
    """With its name, and without a secret."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as caught:
        load(CallbackSettings)
    assert "secret" not in str(caught.value) or "NUMBER:HEX" in str(caught.value)
