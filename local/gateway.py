"""
The HTTP API in front of the functions, on a loopback port.

It answers as API Gateway does, with its own limits and messages. So a wrong method on a known path is 404 `Not Found`
like an unknown path: that is what an HTTP API says (a 405 exists only in REST APIs), and clients should see here what
they will see there.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from local.environment import Invocation
from local.payload import (
    HttpRequest,
    HttpResponse,
    build_event,
    cors_headers,
    match_path,
    message,
    read_response,
    request_id,
    with_cors,
)
from local.runtime import Function, FunctionClosedError, PayloadTooLargeError, ThrottledError
from local.template import HttpApiSpec, HttpRoute

MAX_BODY = 10 * 1024 * 1024  # bytes
INTEGRATION_SECONDS = 30.0

_NOT_FOUND = message(404, "Not Found")
_TOO_LARGE = message(413, "Request Entity Too Large")
_FAILED = message(500, "Internal Server Error")
_UNAVAILABLE = message(503, "Service Unavailable")


@dataclass(frozen=True)
class _BoundRoute:
    route: HttpRoute
    function: Function

    def rank(self) -> tuple[bool, int, bool]:
        """Order routes as API Gateway does: literal before parameter before greedy, a method before ANY."""
        return "+}" in self.route.path, self.route.path.count("{"), self.route.method == "ANY"


class Gateway:
    """
    The HTTP API. The port is taken when it is made, so `url` is known before anything runs; `serve` starts answering.

    `integration_seconds` is how long a function may take before the client gets 503.
    """

    def __init__(self, port: int = 0, integration_seconds: float = INTEGRATION_SECONDS) -> None:
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.gateway = self
        self._integration_seconds = integration_seconds
        self._api = HttpApiSpec("HttpApi")
        self._routes: list[_BoundRoute] = []
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The API's base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def serve(self, api: HttpApiSpec, functions: Mapping[str, Function]) -> None:
        """Answer requests with `functions`, in background threads."""
        bound = [
            _BoundRoute(route, function)
            for function in functions.values()
            for route in function.spec.routes
        ]
        self._api, self._routes = api, sorted(bound, key=_BoundRoute.rank)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port."""
        if self._thread:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request, without a socket."""
        cors, origin = self._api.cors, request.header("origin")
        if cors and request.method == "OPTIONS" and request.header("access-control-request-method"):
            return HttpResponse(204, cors_headers(cors, origin, is_preflight=True))
        return with_cors(self._route(request), cors, origin)

    def _route(self, request: HttpRequest) -> HttpResponse:
        if len(request.body) > MAX_BODY:
            return _TOO_LARGE
        for bound in self._routes:
            route = bound.route
            if route.method not in (request.method, "ANY"):
                continue
            parameters = match_path(route.path, request.path)
            if parameters is not None:
                key = f"{route.method} {route.path}"
                event = build_event(request, key, parameters, self._api.logical_id)
                return self._invoke(bound.function, event)
        return _NOT_FOUND

    def _invoke(self, function: Function, event: dict[str, Any]) -> HttpResponse:
        outcome: Future[Invocation] = Future()

        def run() -> None:
            try:
                outcome.set_result(function.invoke(event))
            except BaseException as error:
                outcome.set_exception(error)

        # The function goes on when the client is given up on, as it does on AWS: hence a thread of its own.
        threading.Thread(target=run, daemon=True).start()
        try:
            invocation = outcome.result(self._integration_seconds)
            return _FAILED if invocation.is_error else read_response(invocation.payload)
        except PayloadTooLargeError:
            return _TOO_LARGE
        except (FutureTimeoutError, ThrottledError, FunctionClosedError):
            return _UNAVAILABLE
        except (ValueError, TypeError, AttributeError):  # an answer that is not in the format
            return _FAILED


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    gateway: Gateway

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a client that went away is not the gateway's error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # with the line above: headers and body in one packet, or each call costs 40 ms
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Keep the terminal for the functions' own logs."""

    def _serve(self) -> None:
        body = self._read_body()
        if body is None:
            self._write(_TOO_LARGE)
            return
        request = HttpRequest(
            self.command, self.path, self.headers.items(), body, self.client_address[0]
        )
        self._write(self.server.gateway.handle(request))

    def _read_body(self) -> bytes | None:
        """Return the body, or None when it is over the limit; then the rest of the connection is given up."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            length = int(self.headers.get("Content-Length") or 0)
            if length <= MAX_BODY:
                return self.rfile.read(length)
            self._drain()
            return None
        body = b""
        while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            if len(body) + size > MAX_BODY:
                self._drain()
                return None
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _drain(self) -> None:
        """Read on until the client pauses: one that still sends would see a reset instead of the answer."""
        self.close_connection = True
        self.connection.settimeout(0.5)
        with contextlib.suppress(OSError):
            while self.rfile.read(1 << 16):
                pass
        self.connection.settimeout(None)

    def _write(self, response: HttpResponse) -> None:
        self.send_response_only(response.status, responses.get(response.status, ""))
        for name, value in response.headers:
            self.send_header(name, value)
        has_body = response.status not in (204, 304)
        if has_body:
            self.send_header("content-length", str(len(response.body)))
        self.send_header("apigw-requestid", request_id())
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        if has_body and self.command != "HEAD":
            self.wfile.write(response.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815
