"""
One execution environment of a function: its process, its Runtime API, its log.

The rules are Lambda's: ten seconds to start, the function's timeout for each event, and whatever a process left behind
when it ends is killed with it. A process that died is never used again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.interpreter import Interpreter, function_arn
from local.reaper import Reaper, kill_group
from local.runtime_api import Answer, Event, Exchange, RuntimeApiServer
from local.template import FunctionSpec

LINGER_SECONDS = 1.0  # for a process to come back for its next event after an answer


@dataclass(frozen=True)
class Invocation:
    """
    How one invocation went; times are in milliseconds.

    `payload` is the function's answer as bytes of JSON, or its error (`errorType`, `errorMessage`) when `is_error`.
    `init_ms` is 0 unless this was the environment's first (`is_cold`).
    """

    request_id: str
    payload: bytes
    is_error: bool
    is_cold: bool
    init_ms: float
    duration_ms: float
    log: str

    def json(self) -> Any:
        """Return the payload decoded; raises `ValueError` when it is no JSON."""
        return json.loads(self.payload or b"null")


@dataclass(frozen=True)
class Sandbox:
    """What all environments of a cloud share: the interpreter, the run directory, the limits (in seconds)."""

    interpreter: Interpreter
    directory: Path
    reaper: Reaper
    init_limit: float = 10.0


class Environment:
    """One process of a function. `invoke` is called by one thread at a time."""

    def __init__(self, spec: FunctionSpec, sandbox: Sandbox) -> None:
        self._spec = spec
        self._sandbox = sandbox
        self._exchange = Exchange(function_arn(spec))
        self._api = RuntimeApiServer(self._exchange)
        self._scratch = Path(tempfile.mkdtemp(prefix=f"{spec.name}-", dir=sandbox.directory))
        self._log = tempfile.TemporaryFile(dir=sandbox.directory)  # noqa: SIM115 - closed in close()
        self._log_read = 0
        self._is_cold = True
        self._is_spent = False
        self._epitaph = ""
        self._started = time.monotonic()
        # A file takes the log, not a pipe: what the process wrote before its answer is there when the answer is.
        self._process = subprocess.Popen(
            sandbox.interpreter.command(spec),
            cwd=spec.code,
            env=sandbox.interpreter.environment(spec, self._api.address, self._scratch),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        sandbox.reaper.watch(self._process.pid)
        self._waiter = threading.Thread(target=self._wait_for_exit, daemon=True)
        self._waiter.start()

    @property
    def is_usable(self) -> bool:
        """Whether the process can take another event."""
        return not self._is_spent and self._exchange.exit_code is None

    def wait_until_started(self) -> None:
        """Wait until the process asks for its first event, fails to, or has used up its time."""
        exchange, deadline = self._exchange, self._started + self._sandbox.init_limit
        if exchange.ready_at is None:
            exchange.wait(
                lambda: exchange.is_ready or exchange.init_error, deadline - time.monotonic()
            )

    def invoke(self, payload: bytes) -> Invocation:
        """Run the function once. Errors of the function, its start included, are part of the answer."""
        request_id, exchange = str(uuid.uuid4()), self._exchange
        is_cold, self._is_cold = self._is_cold, False
        begun = time.monotonic()
        answer = self._start_error(request_id)
        if answer is None:
            begun = time.monotonic()
            timeout = self._spec.timeout
            exchange.offer(Event(request_id, payload, time.time() + timeout))
            exchange.wait(lambda: exchange.answer, timeout)
            answer = exchange.answer or self._died(
                request_id, f"Task timed out after {timeout:.2f} seconds"
            )
        duration = (time.monotonic() - begun) * 1000
        if not self._is_spent and not exchange.wait(lambda: exchange.is_ready, LINGER_SECONDS):
            self._is_spent = True
        started = exchange.ready_at or time.monotonic()
        init = (started - self._started) * 1000 if is_cold else 0.0
        log = self._report(request_id, init, duration)
        return Invocation(request_id, answer.payload, answer.is_error, is_cold, init, duration, log)

    def kill(self) -> None:
        """Send SIGKILL to the process and all it started, as a host that fails would."""
        if self._exchange.exit_code is None:
            kill_group(self._process.pid)

    def close(self) -> None:
        """End the process and everything that belongs to it."""
        self._is_spent = True
        self.kill()
        self._waiter.join()
        self._api.close()
        self._log.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _start_error(self, request_id: str) -> Answer | None:
        """Wait until the process has started; return the error if it does not."""
        self.wait_until_started()
        exchange = self._exchange
        if exchange.init_error:
            self._is_spent = True
            return Answer(exchange.init_error, is_error=True)
        if not exchange.is_ready:
            limit = self._sandbox.init_limit
            return self._died(request_id, f"Init timed out after {limit:.2f} seconds")
        return None

    def _died(self, request_id: str, timed_out: str) -> Answer:
        """Describe, in Lambda's words, why there is no answer, and end the process."""
        self._is_spent = True
        code = self._exchange.exit_code
        if code is None:
            kind, why = "Sandbox.Timedout", timed_out
            self.kill()
            self._waiter.join()
        elif code == 0:
            kind, why = "Runtime.ExitError", "Runtime exited without providing a reason"
        else:
            name = (signal.strsignal(-code) or str(-code)).lower() if code < 0 else ""
            reason = f"signal: {name}" if name else f"exit status {code}"
            kind, why = "Runtime.ExitError", f"Runtime exited with error: {reason}"
        message = f"RequestId: {request_id} Error: {why}"
        self._epitaph = f"{message}\n{kind}\n"
        error = {"errorType": kind, "errorMessage": message}
        return Answer(json.dumps(error).encode(), is_error=True)

    def _wait_for_exit(self) -> None:
        code = self._process.wait()
        kill_group(self._process.pid)  # what the function started and left behind
        self._sandbox.reaper.forget(self._process.pid)
        self._exchange.exited(code)

    def _report(self, request_id: str, init_ms: float, duration_ms: float) -> str:
        """Return the log since the last call between the lines Lambda itself writes."""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), size - self._log_read, self._log_read)
        self._log_read = size
        facts = [
            f"REPORT RequestId: {request_id}",
            f"Duration: {duration_ms:.2f} ms",
            f"Memory Size: {self._spec.memory_mb} MB",
        ]
        if init_ms:
            facts.append(f"Init Duration: {init_ms:.2f} ms")
        lines = text.decode(errors="replace")
        if lines and not lines.endswith("\n"):
            lines += "\n"
        start = f"START RequestId: {request_id} Version: $LATEST\n"
        end = f"END RequestId: {request_id}\n" + "\t".join(facts) + "\n"
        return start + lines + self._epitaph + end
