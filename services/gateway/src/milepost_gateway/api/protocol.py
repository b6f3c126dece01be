"""HTTP/1.1 of uvicorn, with limits for slow clients and with the rules of RFC 9112 that uvicorn leaves to llhttp.

What breaks a rule is answered with a problem, after the responses that earlier requests of the connection wait for.
"""

import asyncio
from datetime import timedelta
from typing import Any

import httptools
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from milepost_contracts.http.problems import ProblemType
from milepost_gateway.api import framing, problems
from milepost_gateway.api.framing import MAX_HEAD, Fault
from milepost_gateway.api.request_log import RequestLog
from milepost_gateway.api.transport import JoinedWrites

HEAD_TIMEOUT = timedelta(seconds=10)
"""How long a client may take to send a request's head: all of it but its body."""
_MALFORMED = Fault("The bytes are not HTTP/1.1 (RFC 9112).")
_LATE = Fault("The request line and headers took too long.", ProblemType.REQUEST_TIMEOUT)
_NO_UPGRADE = (b"content-length", b"transfer-encoding")


class HttpProtocol(HttpToolsProtocol):
    """A protocol with a read time-out, a size limit for heads, and one meaning of where a request ends."""

    transport: JoinedWrites  # type: ignore[assignment]
    _head_timer: asyncio.TimerHandle | None = None
    _unparsed = 0
    """Bytes received since the last complete head or piece of a body."""
    _in_head = False
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(JoinedWrites(transport, self.loop))  # type: ignore[arg-type]
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._unparsed += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self._refuse(error.__context__ if isinstance(error.__context__, Fault) else _MALFORMED)
            return
        if self._unparsed > MAX_HEAD:
            self._refuse(framing.too_large(self.url if self._in_head else b""))
        elif self._head_timer is None and (self._in_head or self.cycle is None or self.cycle.response_complete):
            self._start_head_timer()

    def _parse(self, data: bytes) -> None:
        """Parse data. Any Upgrade but to WebSocket is ignored, as RFC 9110 §7.8 lets a server.

        For llhttp the request ends with its head then, and what follows is not HTTP; uvicorn would take the body for
        the next request. So a new parser gets the head without the offer, and the rest.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    return
                data = framing.without_upgrade(*self._head()) + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            else:
                return

    def _head(self) -> tuple[bytes, bytes, str, list[tuple[bytes, bytes]]]:
        return self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers

    def _should_upgrade(self) -> bool:
        """Whether this is a WebSocket handshake: a GET without a body, and no earlier request is still open."""
        return (
            super()._should_upgrade()
            and self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and not any(name in _NO_UPGRADE for name, _ in self.headers)
            and (self.cycle is None or self.cycle.response_complete)
        )

    def on_message_begin(self) -> None:
        self._in_head, self._unparsed = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        framing.check_head(*self._head())
        self._unparsed = 0
        if self.parser.should_upgrade() and not self._should_upgrade():
            return  # _parse repeats this head
        self._in_head = False
        self._stop_head_timer()
        if self.parser.should_upgrade():
            framing.check_handshake(self.headers)
            super().on_headers_complete()
            return
        super().on_headers_complete()
        self.transport.receiving = True
        self.headers = []  # uvicorn appends trailers, which are not headers (RFC 9110 §6.5.1)
        if self.scope["http_version"] == "1.0":
            _answer_without_chunks(self.cycle)

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self.transport.receiving = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self.expect_100_continue and self.transport.receiving and self.cycle.response_complete:
            # RFC 9110 §10.1.1: the client may send the body that it announced, or leave it out.
            self.transport.close()
        super().on_response_complete()

    def _refuse(self, fault: Fault) -> None:
        """Answer with a problem, after the responses that are due, and close. No more data is parsed."""
        self._stop_head_timer()
        self._refused = True
        in_body, cycle = self.transport.receiving, self.cycle
        self.transport.receiving = True
        if in_body and cycle.response_started:
            self.transport.close()
            return
        app = _refusal(fault)
        if in_body and self.pipeline and self.pipeline[0][0] is cycle:  # its app has not been called yet
            cycle.keep_alive = False
            self.pipeline[0] = cycle, app
            return
        if in_body:  # its app waits for the rest of the body: it learns that none comes, and what it sends is dropped
            cycle.disconnected = True
            cycle.message_event.set()
        self.cycle = self._closing_cycle()
        if in_body or cycle is None or cycle.response_complete:
            self._start_asgi_task(self.cycle, app)
        else:
            self.pipeline.appendleft((self.cycle, app))

    def _closing_cycle(self) -> RequestResponseCycle:
        """Return a cycle that closes the connection, for a request that has no complete head."""
        return RequestResponseCycle(
            scope={"type": "http", "method": "", "path": "", "http_version": "1.1", "headers": []},  # type: ignore[typeddict-item]
            transport=self.transport,  # type: ignore[arg-type]
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT.total_seconds(), self._end_slow_head)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_slow_head(self) -> None:
        if self._in_head:
            self._refuse(_LATE)
        else:
            self.transport.close()


def _refusal(fault: Fault) -> Any:
    return RequestLog(problems.app_of(fault.kind, fault.detail))


def _answer_without_chunks(cycle: RequestResponseCycle) -> None:
    """Let the end of the connection end the response's body: HTTP/1.0 knows no chunks (RFC 9112 §6.1)."""
    send = cycle.send

    async def send_plainly(message: Message) -> None:
        cycle.expected_content_length = len(message.get("body", b""))  # uvicorn counts it down
        await send(message)  # type: ignore[arg-type]

    cycle.chunked_encoding = False
    cycle.send = send_plainly  # type: ignore[method-assign, assignment]
