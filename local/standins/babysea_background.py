"""
Timed work in background threads: the BabySea stand-in's own clockwork.

One thread waits for what is due, a small pool does it, so a receiver that hangs holds up nothing
else and a thousand running generations cost no thousand threads.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Action = Callable[[], None]


class Background:
    """Runs actions later. Threads start with the first action."""

    def __init__(self, workers: int = 16) -> None:
        self._due: list[tuple[float, int, Action]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._running = 0
        self._stopped = False
        self._failure: Exception | None = None
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="babysea")
        self._clock: threading.Thread | None = None

    def after(self, seconds: float, action: Action) -> None:
        """Run `action` once `seconds` have passed; nothing runs after `stop`."""
        with self._changed:
            if self._stopped:
                return
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), action))
            if self._clock is None:
                self._clock = threading.Thread(target=self._watch, daemon=True)
                self._clock.start()
            self._changed.notify_all()

    def wait_idle(self, timeout: float) -> None:
        """
        Wait until nothing runs and nothing is due any more.

        Raises `TimeoutError` after `timeout` seconds, and what an action raised, if one did.
        """
        with self._changed:
            idle = self._changed.wait_for(lambda: not self._due and not self._running, timeout)
            if self._failure:
                raise self._failure
            if not idle:
                raise TimeoutError(f"{len(self._due)} steps due, {self._running} running")

    def stop(self) -> None:
        """Forget what is due and wait for what runs."""
        with self._changed:
            self._stopped = True
            self._due.clear()
            self._changed.notify_all()
        if self._clock:
            self._clock.join()
        self._pool.shutdown(cancel_futures=True)

    def _watch(self) -> None:
        with self._changed:
            while not self._stopped:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                _, _, action = heapq.heappop(self._due)
                self._running += 1
                self._pool.submit(self._run, action)

    def _run(self, action: Action) -> None:
        try:
            action()
        except Exception as error:
            traceback.print_exc()
            self._failure = error
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()
