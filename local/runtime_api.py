"""
Lambda's Runtime API (2018-06-01) of one execution environment.

A function's process asks here for its next event and posts the answer, exactly as in Lambda. Each environment has an
address of its own: the API knows a process by the address it calls. `Exchange` is what the two sides share, the HTTP
server below only translates.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_PAYLOAD = 6 * 1024 * 1024  # bytes, of an event and of an answer

_PREFIX = "/2018-06-01/runtime"
_OK = b'{"status":"OK"}'


@dataclass(frozen=True)
class Event:
    """One invocation on its way to the process; `deadline` is in epoch seconds."""

    request_id: str
    payload: bytes
    deadline: float


@dataclass(frozen=True)
class Answer:
    """What the process posted for an event."""

    payload: bytes
    is_error: bool


class Exchange:
    """The state between one process and its platform. Everything is read and written under `changed`."""

    def __init__(self, function_arn: str) -> None:
        self.function_arn = function_arn
        self.changed = threading.Condition()
        self.is_ready = False  # the process waits for its next event
        self.ready_at: float | None = None  # monotonic time when it first did
        self.init_error: bytes | None = None
        self.answer: Answer | None = None
        self.exit_code: int | None = None
        self._pending: Event | None = None
        self._current: Event | None = None

    def offer(self, event: Event) -> None:
        """Hand an event to the waiting process."""
        with self.changed:
            self.answer, self._pending = None, event
            self.is_ready = False
            self.changed.notify_all()

    def exited(self, code: int) -> None:
        """Note that the process has ended: nothing more will come."""
        with self.changed:
            self.exit_code, self.is_ready = code, False
            self.changed.notify_all()

    def wait(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait until `condition` holds; False when the process ends or the time is up before that."""
        with self.changed:
            self.changed.wait_for(lambda: condition() or self.exit_code is not None, seconds)
            return bool(condition())

    # The rest is called by the process, through the HTTP server.

    def take(self) -> Event | None:
        """Wait for the next event; None when the process has been ended meanwhile."""
        with self.changed:
            self.ready_at = self.ready_at or time.monotonic()
            self._current, self.is_ready = None, self._pending is None
            self.changed.notify_all()
            self.changed.wait_for(lambda: self._pending or self.exit_code is not None)
            self._current, self._pending, self.is_ready = self._pending, None, False
            return self._current

    def finish(self, request_id: str, answer: Answer) -> bool:
        """Take the answer for `request_id`; False when that is not the current event."""
        with self.changed:
            if self._current is None or self._current.request_id != request_id:
                return False
            self.answer = answer
            self.changed.notify_all()
            return True

    def fail_init(self, error: bytes) -> None:
        """Take the error that stopped the process from starting."""
        with self.changed:
            self.init_error = error
            self.changed.notify_all()


class RuntimeApiServer:
    """Serves one `Exchange` on a free loopback port until it is closed."""

    def __init__(self, exchange: Exchange) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.exchange = exchange
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """`host:port`, for `AWS_LAMBDA_RUNTIME_API`."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def close(self) -> None:
        """Stop serving and free the port."""
        self._closing = True
        # Wakes the thread; `serve_forever` would poll instead, many times a second in every environment.
        socket.create_connection(self._server.server_address[:2]).close()  # type: ignore[arg-type]
        self._thread.join()
        self._server.server_close()

    def _serve(self) -> None:
        while not self._closing:
            self._server.handle_request()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    exchange: Exchange

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a process that was killed resets its connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = (
        True  # with the next line: one packet an answer, or each call costs 40 ms
    )
    wbufsize = -1
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Keep the terminal for the functions' own logs."""

    def do_GET(self) -> None:
        if self.path != f"{_PREFIX}/invocation/next":
            self._send(404, b"{}")
            return
        event = self.server.exchange.take()
        if event is None:
            self.close_connection = True
            return
        self._send(
            200,
            event.payload,
            {
                "Lambda-Runtime-Aws-Request-Id": event.request_id,
                "Lambda-Runtime-Deadline-Ms": str(int(event.deadline * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": self.server.exchange.function_arn,
                "Lambda-Runtime-Trace-Id": _trace_id(),
            },
        )

    def do_POST(self) -> None:
        exchange = self.server.exchange
        body = self._read_body()
        if self.path == f"{_PREFIX}/init/error":
            exchange.fail_init(body)
            self._send(202)
            return
        match = re.fullmatch(rf"{_PREFIX}/invocation/([^/]+)/(response|error)", self.path)
        if not match:
            self._send(404, b"{}")
            return
        request_id, kind = match.groups()
        too_large = kind == "response" and len(body) > MAX_PAYLOAD
        answer = _TOO_LARGE if too_large else Answer(body, is_error=kind == "error")
        if not exchange.finish(request_id, answer):
            self._send(400, b'{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}')
        elif too_large:
            self._send(413, b'{"errorMessage":"Exceeded maximum payload"}')
        else:
            self._send(202)

    def _send(self, status: int, body: bytes = _OK, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


_TOO_LARGE = Answer(
    json.dumps(
        {
            "errorType": "Function.ResponseSizeTooLarge",
            "errorMessage": "Response payload size exceeded maximum allowed payload size "
            f"({MAX_PAYLOAD} bytes).",
        }
    ).encode(),
    is_error=True,
)


def _trace_id() -> str:
    root = f"1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}"
    return f"Root={root};Parent={uuid.uuid4().hex[:16]};Sampled=1"
