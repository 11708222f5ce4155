"""
A Lambda function on this machine: a pool of execution environments behind one `invoke`.

Like Lambda, it starts an environment when none is idle and uses it again afterwards. Unlike Lambda, a call over the
concurrency limit waits in line: a laptop has two cores, and a refusal would only test the laptop.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from local.environment import Environment, Invocation, Sandbox
from local.runtime_api import MAX_PAYLOAD
from local.template import FunctionSpec

DEFAULT_CONCURRENCY = 10
LINE_SECONDS = 30.0
# Python's start is all CPU: more at once than cores only makes each of them late for its ten seconds.
STARTS_AT_ONCE = max(2, os.cpu_count() or 2)


class PayloadTooLargeError(Exception):
    """The event is larger than Lambda takes (6 MB)."""


class ThrottledError(Exception):
    """The function's concurrency was used up for longer than a call waits in line."""


class FunctionClosedError(Exception):
    """The cloud is being shut down."""


OnLog = Callable[[str, str], None]


class Function:
    """
    One function and its environments; safe to call from many threads.

    `on_log(logical_id, text)` gets the log of each invocation. `line_seconds` is how long a call over the limit waits.
    """

    def __init__(
        self,
        spec: FunctionSpec,
        sandbox: Sandbox,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        line_seconds: float = LINE_SECONDS,
        on_log: OnLog | None = None,
    ) -> None:
        self.spec = spec
        self.concurrency = min(concurrency, spec.concurrency or concurrency)
        self._sandbox = sandbox
        self._line_seconds = line_seconds
        self._on_log = on_log
        self._changed = threading.Condition()
        self._idle: list[Environment] = []
        self._busy: set[Environment] = set()
        self._starting = 0
        self._stale: set[Environment] = set()
        self._is_closed = False

    @property
    def busy(self) -> int:
        """How many environments work on an event, or start to."""
        with self._changed:
            return len(self._busy)

    @property
    def idle(self) -> int:
        """How many environments wait for an event."""
        with self._changed:
            return len(self._idle)

    def invoke(self, event: Any) -> Invocation:
        """
        Run the function with `event` (JSON-like) and return how it went.

        Raises `PayloadTooLargeError`, `ThrottledError` or `FunctionClosedError`; an error of the function itself is
        in the answer.
        """
        payload = json.dumps(event, ensure_ascii=False).encode()
        if len(payload) > MAX_PAYLOAD:
            raise PayloadTooLargeError(f"{len(payload)} bytes")
        environment = self._acquire()
        try:
            invocation = environment.invoke(payload)
        finally:
            self._release(environment)
        if self._on_log:
            self._on_log(self.spec.logical_id, invocation.log)
        return invocation

    def recycle(self) -> None:
        """Make the next invocation a cold start; environments at work finish first."""
        with self._changed:
            idle, self._idle = self._idle, []
            self._stale |= self._busy
        for environment in idle:
            environment.close()

    def kill_busy(self) -> int:
        """Send SIGKILL to every environment that works on an event; return how many there were."""
        with self._changed:
            for environment in self._busy:
                environment.kill()
            return len(self._busy)

    def close(self) -> None:
        """End all environments. Calls in progress answer as if their process had crashed."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            for environment in self._busy:
                environment.kill()
            self._changed.wait_for(lambda: not self._busy)
        self.recycle()

    def _acquire(self) -> Environment:
        """Return an environment for one event, counted as busy."""
        deadline = time.monotonic() + self._line_seconds
        with self._changed:
            while True:
                if self._is_closed:
                    raise FunctionClosedError(self.spec.logical_id)
                if environment := self._take_idle():
                    return environment
                if len(self._busy) < self.concurrency and self._starting < STARTS_AT_ONCE:
                    break
                if not self._changed.wait(deadline - time.monotonic()):
                    raise ThrottledError(self.spec.logical_id)
            environment = Environment(self.spec, self._sandbox)
            self._busy.add(environment)
            self._starting += 1
        environment.wait_until_started()
        with self._changed:
            self._starting -= 1
            self._changed.notify_all()
        return environment

    def _take_idle(self) -> Environment | None:
        while self._idle:
            environment = self._idle.pop()  # the warmest; a crowd's others may rest
            if environment.is_usable:
                self._busy.add(environment)
                return environment
            environment.close()
        return None

    def _release(self, environment: Environment) -> None:
        with self._changed:
            self._busy.discard(environment)
            is_kept = environment.is_usable and not (self._is_closed or environment in self._stale)
            self._stale.discard(environment)
            if is_kept:
                self._idle.append(environment)
            self._changed.notify()
        if not is_kept:
            environment.close()
