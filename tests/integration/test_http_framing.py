"""Where a request begins and ends: what the bytes of a connection mean, however they are cut into segments."""

import socket

import pytest
from http_server import Recorder, exchange, problem, receive, served

from milepost_gateway.api import protocol
from milepost_gateway.api.framing import MAX_HEAD, MAX_TARGET

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\nUpgrade: h2c\r\n"
JAVA = (
    b"POST /v1/jobs HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 15\r\nHost: 127.0.0.1:8800\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\nUpgrade: h2c\r\n"
    b'User-Agent: Java-http-client/17.0.15\r\nContent-Type: application/json\r\n\r\n{"type":"noop"}'
)
"""What the HttpClient of Java 17 sends."""
HANDSHAKE = (
    b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture(scope="module")
def server():
    app = Recorder()
    with served(app) as (_, address):
        yield app, address


@pytest.fixture
def app(server):
    server[0].executed.clear()
    return server[0]


@pytest.fixture
def address(server):
    return server[1]


@pytest.mark.parametrize("cut", range(len(JAVA) + 1))
def test_the_offer_of_another_protocol_is_ignored_wherever_the_request_is_cut(app, address, cut):
    """Java's HttpClient offers `h2c` with every request (RFC 9110 §7.8). The request has its body; the next follows."""
    exchange(address, JAVA[:cut], JAVA[cut:], JAVA[:cut], JAVA[cut:], last=b"2")
    assert [("POST", "/v1/jobs", b'{"type":"noop"}')] * 2 == app.executed


def test_an_offer_byte_by_byte(app, address):
    """Each byte in a segment of its own, or all requests in one."""
    exchange(address, *(JAVA[at : at + 1] for at in range(len(JAVA))), JAVA * 3, last=b"4")
    assert [("POST", "/v1/jobs", b'{"type":"noop"}')] * 4 == app.executed


UPGRADES = {
    "h2c": OFFER,
    "TLS": b"Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
    "several": b"Connection: upgrade\r\nUpgrade: h2c, websocket\r\n",
    "two lines": b"Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n",
    "websocket": HANDSHAKE.removeprefix(b"Host: x\r\n"),
}


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("method", [b"POST", b"GET", b"DELETE"])
def test_the_body_of_a_request_with_an_upgrade_is_never_a_request(app, address, method, upgrade):
    """With a length or in chunks, in the same segment or a later one; also of a WebSocket handshake."""
    head = method + b" /a HTTP/1.1\r\nHost: x\r\n" + UPGRADES[upgrade]
    sized = head + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
    chunked = head + CHUNKED + b"\r\n"
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
    exchange(address, sized + SMUGGLED, sized, SMUGGLED, chunked + chunks, chunked, chunks, last=b"4")
    assert [(method.decode(), "/a", SMUGGLED)] * 4 == app.executed


def test_an_upgrade_in_http_1_0_is_ignored(app, address):
    """As RFC 9110 §7.8 requires."""
    exchange(address, b"POST /a HTTP/1.0\r\n" + OFFER + b"Content-Length: 5\r\n\r\n", b"hello")
    exchange(address, b"GET /a HTTP/1.0\r\n" + HANDSHAKE + b"\r\n")
    assert [("POST", "/a", b"hello"), ("GET", "/a", b"")] == app.executed


@pytest.mark.parametrize("cut", [1, 30, len(HANDSHAKE), -1])
def test_a_websocket_handshake_is_accepted(app, address, cut):
    """Wherever it is cut."""
    handshake = b"GET /ws HTTP/1.1\r\n" + HANDSHAKE + b"\r\n"
    assert exchange(address, handshake[:cut], handshake[cut:], last=b"\x03\xe8").startswith(b"HTTP/1.1 101 ")
    assert [("websocket", "/ws", b"")] == app.executed


def test_a_websocket_handshake_behind_an_open_request_is_no_handshake(app, address):
    """Its frames would mix with the response that is due."""
    handshake = b"GET /ws HTTP/1.1\r\n" + HANDSHAKE + b"\r\n"
    answer = exchange(address, POST + b"Content-Length: 5\r\n\r\nhello" + handshake, last=b"2")
    assert 2 == answer.count(b"HTTP/1.1 200 ")
    assert [("POST", "/a", b"hello"), ("GET", "/ws", b"")] == app.executed


@pytest.mark.parametrize("change", [(b": 13", b": 8"), (b"dGhl", b""), (b"Sec-WebSocket-Key", b"X"), (b"==", b"=")])
def test_a_malformed_websocket_handshake_is_a_problem(app, address, change):
    """What follows it is not executed."""
    answer = exchange(address, b"GET /ws HTTP/1.1\r\n" + HANDSHAKE.replace(*change) + b"\r\n" + SMUGGLED)
    assert (400, "malformed-request") == problem(answer)
    assert [] == app.executed


TRAILERS = b"Content-Type: application/json\r\nAuthorization: Bearer x\r\nHost: y\r\nExpect: 100-continue\r\n"


def test_trailers_are_no_headers(app, address):
    """Neither of this request nor of the next (RFC 9110 §6.5.1)."""
    request = POST + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n" + TRAILERS + b"\r\n"
    exchange(address, request, SMUGGLED, last=b"2")
    assert [("POST", "/a", b"hello"), ("GET", "/smuggled", b"")] == app.executed
    assert {b"host": b"x"} == app.headers
    exchange(address, request, last=b"3")
    assert {b"host": b"x", b"transfer-encoding": b"chunked"} == app.headers


def test_trailers_have_a_limit(app, address):
    """One that never ends would fill the memory."""
    answer = exchange(address, POST + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX: ", *[b"x" * 1_000] * (MAX_HEAD // 500))
    assert (431, "headers-too-large") == problem(answer)
    assert [] == app.executed


def te(value):
    return POST + b"Transfer-Encoding: " + value + b"\r\n\r\n" + HELLO


def length(value):
    return POST + b"Content-Length: " + value + b"\r\n\r\nhello"


def chunk(text):
    return POST + CHUNKED + b"\r\n" + text


GET = b"GET /a HTTP/1.1\r\n"
MALFORMED = {
    "gzip, chunked": te(b"gzip, chunked"),
    "gzip": te(b"gzip"),
    "chunked, gzip": te(b"chunked, gzip"),
    "chunked, chunked": te(b"chunked, chunked"),
    "identity": te(b"identity"),
    "no transfer coding": te(b""),
    "xchunked": te(b"xchunked"),
    "chunked after a vertical tab": te(b"\x0bchunked"),
    "chunked twice": POST + CHUNKED + CHUNKED + b"\r\n" + HELLO,
    "gzip, and chunked": POST + b"Transfer-Encoding: gzip\r\n" + CHUNKED + b"\r\n" + HELLO,
    "chunked in HTTP/1.0": b"POST /a HTTP/1.0\r\nHost: x\r\n" + CHUNKED + b"\r\n" + HELLO,
    "chunked and a length": POST + CHUNKED + b"Content-Length: 5\r\n\r\n" + HELLO,
    "a length and chunked": POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n" + HELLO,
    **{
        f"length {value}": length(value)
        for value in (b"+5", b"5, 5", b"5,5", b"-1", b"0x5", b"5 5", b"", b"5;a", b"1_0", b"\xb2", b"9" * 30)
    },
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two different lengths": POST + b"Content-Length: 35\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    "no host": GET + b"\r\n",
    "two hosts": GET + b"Host: a\r\nHost: a\r\n\r\n",
    "two hosts in HTTP/1.0": b"GET /a HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    **{
        f"host {value}": GET + b"Host: " + value + b"\r\n\r\n"
        for value in (
            b"",
            b"a@b",
            b"a, b",
            b"a/b",
            b"a b",
            b"a:b",
            b"[a",
            b"a:1:2",
            b"http://a",
            b"a?",
            b"a#",
            b"a\\b",
            b"\xff",
        )
    },
    "another host in the target": b"GET http://evil/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "userinfo in the target": b"GET http://x@evil/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "an authority alone": b"GET x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",
    "a bare line feed": b"GET /a HTTP/1.1\nHost: x\n\n",
    "a bare line feed in the headers": GET + b"Host: x\nX: y\r\n\r\n",
    "a bare carriage return": GET + b"Host: x\rX: y\r\n\r\n",
    "two carriage returns": GET + b"Host: x\r\r\n\r\n",
    "a NUL": GET + b"Host: x\r\nA: b\0c\r\n\r\n",
    "a folded header": GET + b"Host: x\r\nA: b\r\n c\r\n\r\n",
    "a folded first header": GET + b" Host: x\r\n\r\n",
    "a space before the colon": POST + b"Content-Length : 5\r\n\r\nhello",
    "a tab before the colon": POST + b"Content-Length\t: 5\r\n\r\nhello",
    "a header without a name": POST + b": 5\r\n\r\n",
    "a space after the size": chunk(b"5 \r\nhello\r\n0\r\n\r\n"),
    "a line feed after the size": chunk(b"5\nhello\r\n0\r\n\r\n"),
    "a carriage return in an extension": chunk(b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    "a line feed in an extension": chunk(b"5;\nhello\r\n0\r\n\r\n"),
    **{
        f"size {size}": chunk(size + b"\r\nhello\r\n0\r\n\r\n") for size in (b"0x5", b"+5", b"-5", b"g", b"", b"f" * 17)
    },
    "a chunk that is too long": chunk(b"5\r\nhello!\r\n0\r\n\r\n"),
    "a chunk without its end": chunk(b"5\r\nhello0\r\n\r\n"),
    "a line feed after a chunk": chunk(b"5\r\nhello\n0\n\n"),
    "a length as a trailer": chunk(b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"),
    "a coding as a trailer": chunk(b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "an unknown method": b"FOO /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",
    "CONNECT and a path": b"CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2.0": b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/1.2": b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /a HTTP/0.9\r\nHost: x\r\n\r\n",
    "a line of HTTP/0.9": b"GET /a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "a space in the path": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a byte in the path": b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_a_problem(app, address, name):
    """It closes the connection, and neither it nor what follows it is executed."""
    request = MALFORMED[name]
    assert (400, "malformed-request") == problem(exchange(address, request + SMUGGLED))
    assert (400, "malformed-request") == problem(exchange(address, request, SMUGGLED))
    assert [] == app.executed


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_does_not_mix_with_earlier_responses(app, address, name):
    """They are sent first: a client takes each response for that of its own request."""
    answer = exchange(address, POST + b"Content-Length: 5\r\n\r\nhello" + MALFORMED[name] + SMUGGLED)
    first, found, last = answer.partition(b"1HTTP/1.1 400 ")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert (400, "malformed-request") == problem(found[1:] + last)
    assert [("POST", "/a", b"hello")] == app.executed


VALID = {
    "an absolute target": b"GET http://X:80/a HTTP/1.1\r\nHost: x:80\r\n\r\n",
    "no host in HTTP/1.0": b"GET /a HTTP/1.0\r\n\r\n",
    "an IPv6 address": b"GET /a HTTP/1.1\r\nHost: [::1]:8800\r\n\r\n",
    "a name with underscores": b"GET /a HTTP/1.1\r\nHost: a_b.c-d.:80\r\n\r\n",
    "empty lines before it": b"\r\n\r\n" + GET + b"Host: x\r\n\r\n",
    "chunked in upper case": b"GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
    "chunk extensions": b'GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0;a=b;c="d"\r\n\r\n',
}


@pytest.mark.parametrize("name", VALID)
def test_what_rfc_9112_allows_is_answered(app, address, name):
    """Chunk extensions, for example, are ignored."""
    assert exchange(address, VALID[name], last=b"1").startswith(b"HTTP/1.1 200 ")
    assert [("GET", "/a", b"")] == app.executed


@pytest.mark.parametrize(
    "head, expected",
    [
        pytest.param(b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (414, "uri-too-long"), id="path"),
        pytest.param(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n", (414, "uri-too-long"), id="long path"),
        pytest.param(
            b"GET /" + b"a" * MAX_TARGET + b" HTTP/1.1\r\nHost: x\r\n\r\n", (414, "uri-too-long"), id="one more"
        ),
        pytest.param(GET + b"Host: x\r\n" + b"A: %s\r\n" % (b"a" * 8_000) * 100, (431, "headers-too-large"), id="many"),
        pytest.param(GET + b"Host: x\r\nA: %s\r\n\r\n" % (b"a" * 100_000), (431, "headers-too-large"), id="one"),
        pytest.param(GET + b"Host: x\r\nA: %s" % (b"a" * 1_000_000), (431, "headers-too-large"), id="endless"),
    ],
)
def test_a_head_that_is_too_large_is_a_problem(app, address, head, expected):
    """In one segment or several. The client gets it although it is still sending."""
    assert expected == problem(exchange(address, head))
    assert expected == problem(exchange(address, *(head[at : at + 999] for at in range(0, len(head), 999))))
    assert [] == app.executed


def test_a_head_that_stops_is_a_problem(app, address, monkeypatch):
    """A connection without a byte is closed without a response: nobody waits for one."""
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", protocol.HEAD_TIMEOUT / 50)
    assert (408, "request-timeout") == problem(exchange(address, GET + b"Host: x\r\n"))
    assert b"" == exchange(address, b"")
    assert [] == app.executed


def test_the_rest_of_a_body_that_nobody_reads_must_arrive_in_time(monkeypatch):
    """Its response has been sent."""
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", protocol.HEAD_TIMEOUT / 50)

    async def refuse(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"no"})

    with served(refuse) as (_, address), socket.create_connection(address, 10) as client:
        client.sendall(POST + b"Content-Length: 100\r\n\r\n")
        receive(client, last=b"no")
        client.sendall(b"slow")
        assert b"" == client.recv(1)


def test_a_body_that_the_server_did_not_ask_for_is_not_the_next_request():
    """After a final response a client may leave out the body that it announced with `Expect`: the connection ends."""

    async def refuse(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"no"})

    with served(refuse) as (_, address), socket.create_connection(address, 10) as client:
        client.sendall(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED))
        receive(client, last=b"no")
        client.settimeout(1)
        assert b"" == client.recv(1)


def test_a_response_of_unknown_length_has_no_chunks_in_http_1_0():
    """The end of the connection ends it, as for a stream (RFC 9112 §6.3)."""

    async def stream(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for event in (b"one\n", b"two\n"):
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body"})

    with served(stream) as (_, address):
        head, _, body = exchange(address, b"GET / HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert b"one\ntwo\n" == body
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
