"""
Many actors, one at a time, in an order that the seed decides.

Each actor is a thread that runs only while it has been given the baton. It gives the baton back before every call
that leaves the process (a point), when it sleeps, and when PostgreSQL lets it wait for a lock. Time is virtual: it
passes a little at every step, and leaps when nobody has anything to do. So a day costs nothing, and the same seed gives
the same run, step by step.
"""

from __future__ import annotations

import heapq
import itertools
import re
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from tests.chaos.faults import Plan

T = TypeVar("T")
Action = Callable[[], None]

START = datetime(2030, 1, 1, 12, tzinfo=UTC).timestamp()
TICK_SECONDS = 0.001
STAY = 0.75
"""How likely an actor goes on after a point without another one running in between."""
_LOOK_SECONDS = 0.004
_STUCK_SECONDS = 20.0
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_here = threading.local()


def current() -> Actor | None:
    """Return the actor that this thread is; None outside of a run."""
    return getattr(_here, "actor", None)


class Actor:
    """One thread of a run. Only `Scheduler` makes them."""

    def __init__(self, scheduler: Scheduler, name: str, action: Action) -> None:
        self.scheduler = scheduler
        self.name = name
        self.points = 0
        self.invocations: list[Any] = []
        self.is_ready = True
        self.is_done = False
        self.is_blocked = False
        self.waits_in: int | None = None
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self._go = threading.Semaphore(0)
        self._action = action
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def go(self) -> None:
        """Give it the baton."""
        self.stopped.clear()
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()

    def join(self) -> None:
        """Wait for its thread to end."""
        self._thread.join()

    def next_point(self) -> str:
        """Return the name of the next place where something can go wrong."""
        self.points += 1
        return f"{self.name}#{self.points}"

    def rename(self, name: str) -> None:
        """Take a name that says what it does, and count its points from there."""
        self.name, self.points = name, 0

    def pause(self) -> None:
        """Let others run."""
        self._give_back(is_ready=True)

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.scheduler.wake(self, seconds)
        self._give_back(is_ready=False)

    def perform(self, backend_pid: int, statement: Callable[[], T]) -> T:
        """Run a statement; if it has to wait for somebody's lock, others run meanwhile."""
        self.waits_in = backend_pid
        try:
            return statement()
        finally:
            with self.lock:
                was_blocked, self.waits_in = self.is_blocked, None
            if was_blocked:
                self._give_back(is_ready=True)

    def _give_back(self, *, is_ready: bool) -> None:
        self.is_ready = is_ready
        self.stopped.set()
        self._go.acquire()

    def _run(self) -> None:
        _here.actor = self
        try:
            self._action()
        except BaseException as error:  # noqa: BLE001 - the run is over, and must say why
            self.scheduler.fail(self, error)
        finally:
            self.is_done, self.is_ready = True, False
            self.stopped.set()


class Scheduler:
    """
    Runs the actors of one run and keeps its trail.

    `is_waiting(backend_pid)` says whether a session of PostgreSQL waits for a lock.
    """

    def __init__(self, plan: Plan, is_waiting: Callable[[int], bool]) -> None:
        self.plan = plan
        self.now = START
        self.world: Any = None
        self.steps = 0
        self.trail: list[str] = []
        self._is_waiting = is_waiting
        self._random = plan.random("order")
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, str, Action | Actor]] = []
        self._actors: list[Actor] = []
        self._last: Actor | None = None
        self._failure: str | None = None
        self._labels: dict[str, str] = {}

    def spawn(self, name: str, action: Action) -> None:
        """Start an actor now."""
        self._actors.append(Actor(self, name, action))

    def after(self, seconds: float, name: str, action: Action) -> None:
        """Start an actor later."""
        self._push(seconds, name, action)

    def wake(self, actor: Actor, seconds: float) -> None:
        """Make a sleeping actor ready later."""
        self._push(seconds, actor.name, actor)

    def note(self, text: str) -> None:
        """Add a line to the trail; ids become short and the same in every run of the seed."""
        actor = current()
        line = f"{self.now - START:10.3f}  {actor.name if actor else '-':<22} {text}"
        self.trail.append(_UUID.sub(self._label, line))

    def label(self, identifier: object) -> str:
        """Return what an id is called in the trail."""
        return _UUID.sub(self._label, str(identifier))

    def fail(self, actor: Actor, error: BaseException) -> None:
        """Keep what broke an actor: a bug of the campaign, not of the product."""
        words = "".join(traceback.format_exception(error))
        self._failure = self._failure or f"{actor.name}: {words}"

    def run(self, until: float) -> None:
        """Run all that is to happen until the virtual time `until` (an absolute time)."""
        while True:
            if self._failure:
                raise RuntimeError(self._failure)
            self._start_due()
            ready = [actor for actor in self._actors if actor.is_ready]
            if ready:
                self._step(self._choose(ready))
            elif any(actor.is_blocked for actor in self._actors):
                self._look_at_blocked(patiently=True)
            elif self._events and self._events[0][0] <= until:
                self.now = self._events[0][0]
            else:
                self.now = max(self.now, until)
                return

    @property
    def next_event(self) -> float | None:
        """When something is to happen next; None when nothing is."""
        return self._events[0][0] if self._events else None

    def _push(self, seconds: float, name: str, what: Action | Actor) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), name, what))

    def _start_due(self) -> None:
        while self._events and self._events[0][0] <= self.now:
            _, _, name, what = heapq.heappop(self._events)
            if isinstance(what, Actor):
                what.is_ready = True
            else:
                self.spawn(name, what)

    def _choose(self, ready: list[Actor]) -> Actor:
        if self._last in ready and self._random.random() < STAY:
            return self._last
        return self._random.choice(ready)

    def _step(self, actor: Actor) -> None:
        self.now += TICK_SECONDS
        self.steps += 1
        self._last = actor
        actor.go()
        while not actor.stopped.wait(_LOOK_SECONDS):
            pid = actor.waits_in
            if pid is None or not self._is_waiting(pid):
                continue
            with actor.lock:
                if actor.waits_in == pid:
                    actor.is_blocked, actor.is_ready = True, False
                    break
        if actor.is_done:
            actor.join()
            self._actors.remove(actor)
        self._look_at_blocked()

    def _look_at_blocked(self, *, patiently: bool = False) -> None:
        """Find out who has got the lock that was waited for; so that it does not depend on the machine's speed."""
        for actor in [actor for actor in self._actors if actor.is_blocked]:
            waited = 0.0
            while not actor.stopped.is_set():
                pid = actor.waits_in
                if not patiently and pid is not None and self._is_waiting(pid):
                    break
                waited += _LOOK_SECONDS
                if waited > _STUCK_SECONDS:
                    raise RuntimeError(f"{actor.name} waits for a lock that nobody will free")
                actor.stopped.wait(_LOOK_SECONDS)
            else:
                actor.is_blocked = False

    def _label(self, match: re.Match[str]) -> str:
        return self._labels.setdefault(match[0], f"id{len(self._labels) + 1}")
