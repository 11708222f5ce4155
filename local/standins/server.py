"""
The HTTP server under every stand-in: routes, a request log and fault switches.

Loopback only. A stand-in fails closed: an unknown path is answered by its own `not_found`. The
standard library's server is used because faults need the raw socket: an answer that is lost on the
way cannot be expressed in a web framework.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote


@dataclass(frozen=True)
class Request:
    """
    One HTTP request, body read whole.

    Header names are lower-case, `path` is percent-decoded, `params` come from the route. `faults`
    names the kinds of the faults that struck it: the transport acts on its own kinds, a stand-in on
    kinds of its own invention.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    params: dict[str, str] = field(default_factory=dict)
    raw_path: str = ""
    raw_query: str = ""
    faults: frozenset[str] = frozenset()

    def json(self) -> Any:
        """Return the body as JSON; raises `ValueError` when it is none."""
        return json.loads(self.body or b"null")

    def form(self) -> list[tuple[str, str]]:
        """Return the body as URL-encoded pairs, in order."""
        return parse_qsl(self.body.decode(), keep_blank_values=True)


@dataclass
class Response:
    """One HTTP answer. `headers` may name `content-type`; the length is added."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def json_response(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `data` as a JSON answer."""
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(
        status, body, {"content-type": "application/json; charset=utf-8", **(headers or {})}
    )


@dataclass
class Fault:
    """
    One fault switch at the HTTP level.

    `kind`: `down` (the connection is reset before the handler runs), `lose_answer` (the handler
    runs, the connection is reset instead of an answer), `delay` (`seconds` before the handler),
    `status` (answer `status` with `body`, the handler does not run), or a kind of the stand-in's
    own, which its handler finds in `Request.faults`. `match` is a regular expression over
    "METHOD /path". `times` ends it after n hits (None: until cleared), `after` lets the first n
    matching requests pass, `rate` hits each matching request with that probability.
    """

    kind: str
    match: str = ".*"
    times: int | None = None
    after: int = 0
    rate: float = 1.0
    seconds: float = 0.0
    status: int = 503
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Faults:
    """
    The fault switches of one stand-in.

    Thread-safe. The random source is seeded, so a run can be repeated.
    """

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._random = random.Random(seed)

    def add(self, kind: str, match: str = ".*", **options: Any) -> Fault:
        """Switch a fault on and return it; see `Fault` for the options."""
        fault = Fault(kind, match, **options)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Switch every fault off."""
        with self._lock:
            self._faults.clear()

    def hits(self, line: str) -> list[Fault]:
        """Return the faults that strike `line` ("METHOD /path"), and count them down."""
        struck = []
        with self._lock:
            for fault in self._faults:
                if not re.fullmatch(fault.match, line) or fault.times == 0:
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                if self._random.random() >= fault.rate:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                struck.append(fault)
        return struck


Handler = Callable[[Request], Response]


class StandIn:
    """
    A loopback HTTP server with routes; the base class of every stand-in.

    Use as a context manager. Routes are tried in the order they were added; a pattern's `{name}`
    matches one path segment and `{name+}` the rest of the path.
    """

    def __init__(self, port: int = 0, seed: int = 0) -> None:
        self.faults = Faults(seed)
        self.requests: list[Request] = []
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self._server = _Server(("127.0.0.1", port), _HttpHandler)
        self._server.stand_in = self
        self._thread: threading.Thread | None = None
        self.route("POST", "/_control/faults", self._control_add)
        self.route("DELETE", "/_control/faults", self._control_clear)

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def route(self, methods: str | Iterable[str], pattern: str, handler: Handler) -> None:
        """Answer `methods` on `pattern` with `handler`."""
        regex = re.sub(
            r"\\\{(\w+)(\\\+)?\\\}",
            lambda m: f"(?P<{m[1]}>{'.+' if m[2] else '[^/]+'})",
            re.escape(pattern),
        )
        for method in [methods] if isinstance(methods, str) else methods:
            self._routes.append((method, re.compile(regex), handler))

    def handle(self, request: Request) -> Response:
        """Answer one request without a socket: the first route that fits, else `not_found`."""
        for method, regex, handler in self._routes:
            match = regex.fullmatch(request.path)
            if match and method in (request.method, "ANY"):
                return handler(replace(request, params=match.groupdict()))
        return self.not_found(request)

    def not_found(self, request: Request) -> Response:
        """Answer a request no route fits; a stand-in overrides it with its service's own shape."""
        return json_response({"error": f"no such route: {request.method} {request.path}"}, 404)

    def start(self) -> Self:
        """Serve in a background thread."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving, free the port and cut the connections that clients keep alive."""
        if self._thread:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.cut_connections()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _control_add(self, request: Request) -> Response:
        options = request.json()
        self.faults.add(**{**options, "body": options.get("body", "").encode()})
        return Response(204)

    def _control_clear(self, _request: Request) -> Response:
        self.faults.clear()
        return Response(204)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    stand_in: StandIn

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, so that a stopped stand-in does not go on answering on it."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        """Shut every open connection down; its thread then ends."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a client that went away is not the stand-in's error."""


class _HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body in one packet, or each call costs 40 ms
    wbufsize = -1
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Keep the terminal for the demo."""

    def _serve(self) -> None:
        raw_path, _, raw_query = self.path.partition("?")
        body = self._read_body()
        stand_in = self.server.stand_in
        control = raw_path.startswith("/_control/")
        faults = [] if control else stand_in.faults.hits(f"{self.command} {raw_path}")
        request = Request(
            method=self.command,
            path=unquote(raw_path),
            query=dict(parse_qsl(raw_query, keep_blank_values=True)),
            headers={k.lower(): v for k, v in self.headers.items()},
            body=body,
            raw_path=raw_path,
            raw_query=raw_query,
            faults=frozenset(fault.kind for fault in faults),
        )
        stand_in.requests.append(request)
        for fault in faults:
            if fault.kind == "delay":
                time.sleep(fault.seconds)
        if any(f.kind == "down" for f in faults):
            self._reset()
            return
        forced = next((f for f in faults if f.kind == "status"), None)
        response = (
            Response(forced.status, forced.body, dict(forced.headers))
            if forced
            else self._answer(request)
        )
        if any(f.kind == "lose_answer" for f in faults):
            self._reset()
            return
        self._write(response)

    def _answer(self, request: Request) -> Response:
        try:
            return self.server.stand_in.handle(request)
        except Exception as error:
            return json_response(
                {"error": f"stand-in failed: {type(error).__name__}: {error}"}, 500
            )

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            chunks = b""
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                chunks += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return chunks
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _write(self, response: Response) -> None:
        self.send_response_only(response.status, responses.get(response.status, ""))
        headers = {k.lower(): v for k, v in response.headers.items()}
        if response.status != 204:
            headers.setdefault("content-length", str(len(response.body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and response.status not in (204, 304):
            self.wfile.write(response.body)

    def _reset(self) -> None:
        """Close with RST, as a peer that died does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815
