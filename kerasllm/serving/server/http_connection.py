"""HTTP/1.1 on a socket: one connection, its limits and its time-outs.

Written on `httptools` directly. A general web server such as uvicorn answers what is not HTTP with its own
text, has no time-out for a slow head or body and no limit on a body, and adds a layer to each request; what
the stock server does in these cases is part of the protocol here.
"""

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial

import httptools

from kerasllm.serving.server.gate import Gate
from kerasllm.serving.server.http_wire import request_target, wire_format
from kerasllm.serving.server.options import ServerOptions
from kerasllm.serving.server.rest_app import HttpRequest, HttpResponse, RestApp, error_page
from kerasllm.serving.status import StatusError

__all__ = ["HttpConnection", "HttpConnections"]

_ACCESS = logging.getLogger("kerasllm.serving.access")
_REQUEST_LINE = re.compile(rb"[A-Za-z]+ \S+ HTTP/")


class HttpConnections:
    """All connections of a server, oldest first, and what they share.

    Args:
        app: Answers the requests.
        gate: Limits the computations.
        executor: Runs them.
        options: Of the server.
    """

    def __init__(self, app: RestApp, gate: Gate, executor: Executor, options: ServerOptions):
        self.app = app
        self.gate = gate
        self.executor = executor
        self.options = options
        self.draining = False
        self._open: dict[HttpConnection, None] = {}

    def connect(self) -> "HttpConnection":
        """Makes the protocol for a new socket."""
        return HttpConnection(self)

    def add(self, connection: "HttpConnection") -> None:
        """Registers a connection; the one that has waited longest makes room for it if need be."""
        self._open[connection] = None
        if len(self._open) > self.options.max_connections:
            waiting = (other for other in self._open if not other.busy and other is not connection)
            next(waiting, connection).abort()

    def remove(self, connection: "HttpConnection") -> None:
        """Forgets a closed connection."""
        self._open.pop(connection, None)

    def touch(self, connection: "HttpConnection") -> None:
        """Marks a connection as the last one to have been useful."""
        if connection in self._open:
            self._open[connection] = self._open.pop(connection)

    def drain(self) -> None:
        """Closes idle connections; the others close after their answer."""
        self.draining = True
        for connection in list(self._open):
            if not connection.busy:
                connection.close()

    def abort(self) -> None:
        """Closes every connection at once."""
        for connection in list(self._open):
            connection.abort()

    @property
    def num_busy(self) -> int:
        """Number of connections with a request in progress."""
        return sum(connection.busy for connection in self._open)


class HttpConnection(asyncio.Protocol):
    """One connection: reads requests, hands them to the app in order, writes the answers."""

    def __init__(self, shared: HttpConnections):
        self._shared = shared
        self._options = shared.options
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[tuple[HttpRequest, str, bool]] = deque()
        self.busy = False
        self._dead = False  # nothing more is read
        self._gone = False  # nobody waits for an answer
        self._last = False  # the connection ends after the next answer
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0  # received
        self._head_size = 0  # parsed
        self._started = False
        self._in_body = False
        self._expects_continue = False

    # Socket ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = transport  # type: ignore[assignment]
        self._shared.add(self)
        self._arm(self._options.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._disarm()
        self._dead = self._gone = True
        self._shared.remove(self)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._dead:
            return
        if not self._started and not self.busy:
            self._started = True
            self._arm(self._options.header_timeout)
        self._head_bytes += 0 if self._in_body else len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._dead = self._last = True  # no other protocol is spoken here; the request is answered
        except httptools.HttpParserInvalidMethodError:
            self._refuse(error_page(501 if _REQUEST_LINE.match(data) else 400))
        except httptools.HttpParserError:
            self._refuse(error_page(400))
        if not self._in_body and self._head_bytes > self._options.max_header_bytes and not self._dead:
            self._refuse(error_page(400))
        elif self._expects_continue and self._in_body and not self._body:
            self._expects_continue = False
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def eof_received(self) -> bool:
        """Called by asyncio; a client may stop sending and still wait for its answer."""
        return self.busy

    def abort(self) -> None:
        """Closes the connection at once."""
        self._dead = self._gone = True
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Closes the connection after what has been written."""
        self._dead = True
        if self._transport is not None:
            self._transport.close()

    # Parser ------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._url = b""
        self._headers = {}
        self._body = []
        self._body_bytes = self._head_bytes = self._head_size = 0
        self._started = self._in_body = self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._url += url
        self._head_size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self._head_size += len(name) + len(value)

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._in_body = True
        self._expects_continue = "100-continue" in self._headers.get("expect", "").lower()
        length = self._headers.get("content-length", "0")
        if length.isdigit() and int(length[:20]) > self._options.max_body_bytes:
            self._refuse(self._shared.app.too_large())
        elif (
            self._parser.get_http_version() not in ("1.0", "1.1")
            or self._head_size > self._options.max_header_bytes
        ):
            self._refuse(error_page(400))
        elif self._parser.get_method() == b"CONNECT":
            self._refuse(error_page(501))
        else:
            self._arm(self._options.body_timeout)

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body_bytes += len(body)
        if self._dead:
            return
        if self._body_bytes > self._options.max_body_bytes:
            self._refuse(self._shared.app.too_large())
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._dead:
            return
        request = HttpRequest(
            self._parser.get_method().decode("latin-1"),
            request_target(self._url),
            self._headers,
            b"".join(self._body),
        )
        self._waiting.append((request, self._parser.get_http_version(), self._parser.should_keep_alive()))
        self._reset()
        self._disarm()
        self._next()

    # Requests ----------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Begins the next request; one at a time, and nothing is read meanwhile."""
        while self._waiting and not self.busy:
            self.busy = True
            if self._transport is not None:
                self._transport.pause_reading()
            request, version, keep_alive = self._waiting.popleft()
            answer = partial(self._answer, request, version, keep_alive, time.monotonic())
            try:
                response = self._shared.app.quick_answer(request)
            except Exception as error:
                response = self._shared.app.failure(request, error)
            if response is None:
                self._compute(request, answer)
            else:
                answer(response)

    def _compute(self, request: HttpRequest, answer: Callable[[HttpResponse], None]) -> None:
        try:
            self._shared.gate.enter()
        except StatusError as error:
            answer(self._shared.app.busy(error))
            return
        deadline = time.monotonic() + self._options.request_timeout
        future = self._loop.run_in_executor(self._shared.executor, self._compute_and_leave, request, deadline)
        future.add_done_callback(lambda done: answer(done.result()))

    def _compute_and_leave(self, request: HttpRequest, deadline: float) -> HttpResponse:
        try:
            if self._gone:
                return HttpResponse(499)
            return self._shared.app.computed_answer(request, deadline)
        finally:
            self._shared.gate.leave()

    def _answer(
        self, request: HttpRequest, version: str, keep_alive: bool, began: float, response: HttpResponse
    ) -> None:
        keep_alive = keep_alive and not (response.close or self._last or self._shared.draining)
        head_only = request.method == "HEAD"
        self._write(wire_format(response, version, keep_alive=keep_alive, head_only=head_only))
        _ACCESS.info(
            "%s %s %d %d %.1fms",
            request.method,
            request.path,
            response.status,
            len(response.body),
            1000 * (time.monotonic() - began),
        )
        self.busy = False
        self._shared.touch(self)
        if not keep_alive:
            self.close()
        elif self._waiting:
            self._loop.call_soon(self._next)
        elif self._transport is not None and not self._transport.is_closing():
            self._arm(self._options.idle_timeout)
            self._transport.resume_reading()

    def _refuse(self, response: HttpResponse) -> None:
        """Answers what cannot be read on and closes, if need be after the answer to an earlier request."""
        if self._dead:
            return
        self._dead = self._last = True
        if not self.busy:
            self._write(wire_format(response, "1.1", keep_alive=False))
            _ACCESS.info("- - %d %d", response.status, len(response.body))
            self.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # Time-outs ---------------------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self._loop.call_later(seconds, self.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
