"""`make dev`: the local cloud and its page, kept running, with a user to try it; functions reload when they change."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time

from rich.console import Console

from local.client import UserClient
from local.frontend import Frontend
from local.stack import Stack
from local.watch import Watcher

EMAIL = "dev@example.com"
PASSWORD = "correct horse battery staple"
SWEEP_SECONDS = 10
FRONTEND_PORT = 8000

_ON_EVERY_LINE = {
    "level",
    "location",
    "message",
    "timestamp",
    "service",
    "cold_start",
    "function_name",
    "function_memory_size",
    "function_arn",
    "function_request_id",
    "request_id",
    "xray_trace_id",
}

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run until Ctrl-C or SIGTERM."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    started = time.monotonic()
    frontend = Frontend(_port())
    stack = Stack(
        parameters={"SweepAfterSeconds": "10", "FrontendUrl": frontend.url},
        schedule_every=SWEEP_SECONDS,
        progress=lambda step: console.print(f"{time.monotonic() - started:5.1f} s  {step}"),
        on_log=_show_log,
    )
    with frontend, stack:
        frontend.configure(stack.url, stack.supabase.url, stack.supabase.publishable_key)
        watcher = Watcher(
            stack.cloud.functions,
            on_change=lambda names: console.print(f"[dim]reloaded {', '.join(names)}[/dim]"),
        )
        watcher.start()
        try:
            _introduce(stack, frontend)
            stopping.wait()
        finally:
            watcher.stop()
    console.print("stopped")
    return 0


def _port() -> int:
    """Return the port that the page always has, so that a reload after a restart finds it, or any other."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", FRONTEND_PORT))
        except OSError:
            return 0
    return FRONTEND_PORT


def _introduce(stack: Stack, frontend: Frontend) -> None:
    with UserClient(stack.url, stack.supabase.url, stack.supabase.publishable_key) as user:
        token = user.sign_up(EMAIL, PASSWORD)
        user.buy(pack_id="starter")
    print()
    for name, value in {
        "page": frontend.url,
        "API": stack.url,
        "Supabase": stack.supabase.url,
        "publishable key": stack.supabase.publishable_key,
        "Stripe": stack.stripe.url,
        "BabySea": stack.babysea.url,
        "database": stack.admin_database_url,
        "user": f"{EMAIL} / {PASSWORD}",
    }.items():
        print(f"{name:<16} {value}")
    console.print("\nThe user has the Starter pack. Their token, for an hour:\n")
    print(f"export TOKEN={token}")
    print(f'curl -H "Authorization: Bearer $TOKEN" {stack.url}/account')
    console.print("\nFunctions reload when their code changes. Ctrl-C stops everything.\n")


def _show_log(function: str, text: str) -> None:
    """Show what a function has to say as one readable line each, without what every line repeats."""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if not isinstance(entry, dict) or "message" not in entry or "service" not in entry:
            continue
        details = " ".join(
            f"{key}={value}" for key, value in entry.items() if key not in _ON_EVERY_LINE
        )
        print(
            f"{function.removesuffix('Function')}  {entry['level']}  {entry['message']}  {details}"
        )


if __name__ == "__main__":
    sys.exit(main())
