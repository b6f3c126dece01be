"""Receivers over HTTP: what is connected to, what is sent, and what counts as an answer. Sockets of our own."""

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from ipaddress import ip_network

import pytest

from milepost_contracts.errors import RefusedCallback
from milepost_contracts.webhooks import CallbackRule, parse_ports
from milepost_service.callbacks import Lookup
from milepost_tracker.endpoint import HttpEndpoint

LOCAL = CallbackRule(networks=(ip_network("127.0.0.0/8"),), ports=parse_ports("1-65535"))


class Receiver:
    """Answers every request with the same bytes, and keeps what it got."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.port = 0
        self._serving = set()

    async def _serve(self, reader, writer):
        self._serving.add(asyncio.current_task())
        try:
            with suppress(asyncio.IncompleteReadError):  # who asks may give up before all of it is sent
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


def endpoint(*addresses, rule=LOCAL):
    found = list(addresses) or ["127.0.0.1"]
    return HttpEndpoint(Lookup(rule, find=lambda _: found))


async def test_a_webhook_is_posted_as_it_is_to_the_address_that_was_checked():
    """The name stays in the Host header; the address is not looked for a second time."""
    async with answering(200).listening() as receiver:
        callback = LOCAL.read(f"http://receiver.example:{receiver.port}/hooks?a=b")
        answer = await endpoint().post(callback, b"{}", {"webhook-id": "7"})
    assert (200, None, True) == (answer.status_code, answer.error, answer.taken)
    ((line, headers, body),) = receiver.requests
    assert ("POST /hooks?a=b HTTP/1.1", b"{}") == (line, body)
    assert f"receiver.example:{receiver.port}" == headers["Host"]
    assert "application/cloudevents+json; charset=utf-8" == headers["Content-Type"]
    assert "7" == headers["webhook-id"]
    assert headers["User-Agent"].startswith("milepost/")


@pytest.mark.parametrize("status", [302, 404, 410, 500])
async def test_an_answer_that_is_no_success_is_told_and_no_redirect_is_followed(status):
    """A redirect could lead inside."""
    async with answering(status, "Location: http://127.0.0.1:1/").listening() as receiver:
        callback = LOCAL.read(f"http://receiver.example:{receiver.port}/")
        answer = await endpoint().post(callback, b"{}", {})
    assert (status, None, False) == (answer.status_code, answer.error, answer.taken)
    assert 1 == len(receiver.requests)


async def test_an_address_inside_is_never_connected_to():
    """Nor where the host has a good one too: who answers names decides which comes first."""
    async with answering(200).listening() as receiver:
        callback = LOCAL.read(f"https://rebinds.example:{receiver.port}/")
        for found in (["127.0.0.1"], ["93.184.215.14", "127.0.0.1"]):
            with pytest.raises(RefusedCallback):
                await endpoint(*found, rule=CallbackRule(ports=parse_ports("1-65535"))).post(callback, b"{}", {})
    assert [] == receiver.requests


async def test_the_next_address_is_tried_when_one_is_dead():
    """A host may have several."""
    async with answering(200).listening() as receiver:
        callback = LOCAL.read(f"http://receiver.example:{receiver.port}/")
        answer = await endpoint("127.0.0.2", "127.0.0.1").post(callback, b"{}", {})
    assert 200 == answer.status_code


async def test_a_receiver_that_does_not_answer_is_given_up(monkeypatch):
    """After 15 s in all."""
    monkeypatch.setattr("milepost_tracker.endpoint.ANSWER_WITHIN", timedelta(seconds=1))
    async with Receiver(None).listening() as receiver:
        answer = await endpoint().post(LOCAL.read(f"http://slow.example:{receiver.port}/"), b"{}", {})
    assert (None, "no answer within 1 s") == (answer.status_code, answer.error)


@pytest.mark.parametrize("nonsense", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"x" * 300_000])
async def test_nonsense_is_no_answer(nonsense):
    """Whatever a receiver says, it is told and tried again."""
    async with Receiver(nonsense).listening() as receiver:
        answer = await endpoint().post(LOCAL.read(f"http://odd.example:{receiver.port}/"), b"{}", {})
    assert answer.status_code is None
    assert answer.error


async def test_a_certificate_that_is_not_trusted_is_no_answer(tmp_path):
    """Of https the name is checked too."""
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
        answer = await endpoint().post(callback, b"{}", {})
        assert "certificate verify failed" in answer.error
        trusting = endpoint()
        trusting._ssl.load_verify_locations(certificate)
        trusting._ssl.check_hostname = False  # it has a common name alone
        assert 200 == (await trusting.post(callback, b"{}", {})).status_code


async def test_a_host_that_is_not_found_is_tried_again_later():
    """A name server may be away."""

    def find(_):
        raise OSError("no name server")

    answer = await HttpEndpoint(Lookup(LOCAL, find=find)).post(LOCAL.read("http://nowhere.example/"), b"{}", {})
    assert (None, True) == (answer.status_code, bool(answer.error))
