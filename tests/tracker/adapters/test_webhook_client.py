"""The HTTP webhook client against local receivers: where it connects, what it sends, and how it reads answers."""

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from ipaddress import ip_network

import pytest

from milepost_contracts.errors import RefusedCallback
from milepost_contracts.http.callback_urls import CallbackPolicy, parse_ports
from milepost_service.callback_urls import Resolver
from milepost_tracker.adapters.webhook_client import HttpWebhookClient

LOCAL = CallbackPolicy(networks=(ip_network("127.0.0.0/8"),), ports=parse_ports("1-65535"))


class Receiver:
    """Answers every request with the same bytes, and records the requests."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.port = 0
        self._serving = set()

    async def _serve(self, reader, writer):
        self._serving.add(asyncio.current_task())
        try:
            with suppress(asyncio.IncompleteReadError):  # the client may close before its request is complete
                await self._answer(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
        body = await reader.readexactly(int(lines["Content-Length"]))
        self.requests.append((head.decode().partition("\r\n")[0], lines, body))
        if self.answer is None:
            await reader.read()
        else:
            writer.write(self.answer)

    @asynccontextmanager
    async def listening(self, **more):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, **more)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self
            await asyncio.gather(*self._serving)


def answering(status, *headers):
    lines = [f"HTTP/1.1 {status} Whatever", "Content-Length: 0", *headers, "", ""]
    return Receiver("\r\n".join(lines).encode())


def webhook_client(*addresses, policy=LOCAL):
    found = list(addresses) or ["127.0.0.1"]
    return HttpWebhookClient(Resolver(policy, find=lambda _: found))


async def test_a_webhook_is_posted_unchanged_to_the_checked_address():
    """The Host header keeps the host's name; the name is not resolved a second time."""
    async with answering(200).listening() as receiver:
        callback = LOCAL.read(f"http://receiver.example:{receiver.port}/hooks?a=b")
        answer = await webhook_client().post(callback, b"{}", {"webhook-id": "7"})
    assert (200, None, True) == (answer.status_code, answer.error, answer.accepted)
    ((line, headers, body),) = receiver.requests
    assert ("POST /hooks?a=b HTTP/1.1", b"{}") == (line, body)
    assert f"receiver.example:{receiver.port}" == headers["Host"]
    assert "application/cloudevents+json; charset=utf-8" == headers["Content-Type"]
    assert "7" == headers["webhook-id"]
    assert headers["User-Agent"].startswith("milepost/")


@pytest.mark.parametrize("status", [302, 404, 410, 500])
async def test_a_failure_status_is_returned_and_redirects_are_not_followed(status):
    """A redirect could lead to an internal address."""
    async with answering(status, "Location: http://127.0.0.1:1/").listening() as receiver:
        callback = LOCAL.read(f"http://receiver.example:{receiver.port}/")
        answer = await webhook_client().post(callback, b"{}", {})
    assert (status, None, False) == (answer.status_code, answer.error, answer.accepted)
    assert 1 == len(receiver.requests)


async def test_private_addresses_are_never_connected_to():
    """Not even if the host also has a public address: its DNS server decides which address comes first."""
    async with answering(200).listening() as receiver:
        callback = LOCAL.read(f"https://rebinds.example:{receiver.port}/")
        for found in (["127.0.0.1"], ["93.184.215.14", "127.0.0.1"]):
            with pytest.raises(RefusedCallback):
                await webhook_client(*found, policy=CallbackPolicy(ports=parse_ports("1-65535"))).post(
                    callback, b"{}", {}
                )
    assert [] == receiver.requests


async def test_the_next_address_is_tried_if_one_is_unreachable():
    """A host may have several addresses."""
    async with answering(200).listening() as receiver:
        callback = LOCAL.read(f"http://receiver.example:{receiver.port}/")
        answer = await webhook_client("127.0.0.2", "127.0.0.1").post(callback, b"{}", {})
    assert 200 == answer.status_code


async def test_a_request_times_out_if_the_receiver_does_not_answer(monkeypatch):
    """The time-out covers the complete request; it is 15 s, shortened here."""
    monkeypatch.setattr("milepost_tracker.adapters.webhook_client.RECEIVER_TIMEOUT", timedelta(seconds=1))
    async with Receiver(None).listening() as receiver:
        answer = await webhook_client().post(LOCAL.read(f"http://slow.example:{receiver.port}/"), b"{}", {})
    assert (None, "no answer within 1 s") == (answer.status_code, answer.error)


@pytest.mark.parametrize("nonsense", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"x" * 300_000])
async def test_an_invalid_http_response_is_an_error(nonsense):
    """The error is recorded, and the webhook is retried."""
    async with Receiver(nonsense).listening() as receiver:
        answer = await webhook_client().post(LOCAL.read(f"http://odd.example:{receiver.port}/"), b"{}", {})
    assert answer.status_code is None
    assert answer.error


async def test_an_untrusted_certificate_is_an_error(tmp_path):
    """The TLS certificate of the receiver is verified."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=receiver.example"]
    made = await asyncio.create_subprocess_exec(
        "openssl", *command, "-keyout", str(key), "-out", str(certificate), stderr=asyncio.subprocess.DEVNULL
    )
    assert 0 == await made.wait()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with answering(200).listening(ssl=context) as receiver:
        callback = LOCAL.read(f"https://receiver.example:{receiver.port}/")
        answer = await webhook_client().post(callback, b"{}", {})
        assert "certificate verify failed" in answer.error
        trusting = webhook_client()
        trusting._ssl.load_verify_locations(certificate)
        trusting._ssl.check_hostname = False  # the certificate has a common name only
        assert 200 == (await trusting.post(callback, b"{}", {})).status_code


async def test_a_name_that_cannot_be_resolved_is_an_error():
    """The webhook is retried: the name server may be temporarily unavailable."""

    def find(_):
        raise OSError("no name server")

    answer = await HttpWebhookClient(Resolver(LOCAL, find=find)).post(LOCAL.read("http://nowhere.example/"), b"{}", {})
    assert (None, True) == (answer.status_code, bool(answer.error))
