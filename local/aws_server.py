"""
The process of moto's server: SQS and Secrets Manager on a free loopback port.

A process of its own, because moto keeps its state in globals: two clouds on one machine must not share queues. It
prints its port when it is ready, and ends when its standard input does, so it never outlives its owner.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server


class _QuietHandler(MotoRequestHandler):
    def log(self, *_: Any) -> None:
        """Keep the terminal for the functions' own logs."""


class _OneAtATime:
    """
    Serves one request at a time.

    moto changes a queue's list of messages without a lock: in two threads a message that is sent while another is
    deleted may get lost.
    """

    def __init__(self) -> None:
        self._application = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        with self._lock:
            answer: Iterable[bytes] = self._application(environ, start_response)
            return answer


def _end_with_owner() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Serve until standard input ends."""
    threading.Thread(target=_end_with_owner, daemon=True).start()
    server = make_server(
        "127.0.0.1", 0, _OneAtATime(), threaded=True, request_handler=_QuietHandler
    )
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
