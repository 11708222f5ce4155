"""
What is played: calls, scenarios, and the schedules of their steps.

A schedule is a word over the sessions' letters, as in `AABBA`: who did each step.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from tests.clock import NOON

NOW = NOON
SOON = NOW + timedelta(hours=1)
LATER = NOW + timedelta(days=1)


@dataclass(frozen=True)
class Call:
    """One call, as SQL over the names of a `World`, and the time its caller lives in."""

    sql: str
    clock: datetime = NOW


@dataclass(frozen=True)
class Scenario:
    """What happened before, and the calls that happen together."""

    name: str
    setup: tuple[str, ...]
    calls: tuple[Call, ...]

    @property
    def two_users(self) -> bool:
        """Whether the calls are about two users, whose balances keep nobody waiting for the other."""
        return any("%(other)s" in call.sql for call in self.calls)

    @property
    def seals(self) -> bool:
        """Whether a seal is among the calls, which shares no row with the others."""
        return any("ledger.seal" in call.sql for call in self.calls)


class World:
    """Fresh names for one schedule: users, reservations, keys; all contain `tag`."""

    _numbers = itertools.count()

    def __init__(self) -> None:
        self.number = next(World._numbers)
        self.tag = f"{0xA0000000 + self.number:08x}"
        ids = ["user", "other", "r1", "r2", "new", "new2"]
        self.names: dict[str, object] = {
            name: UUID(f"{self.tag}-0000-4000-8000-{n:012x}") for n, name in enumerate(ids)
        }
        for name in ("g1", "g2", "g3", "g4", "g5", "key", "key2", "x0", "x1", "x2", "x3"):
            self.names[name] = f"k:{self.tag}:{name}"
        self.names |= {"soon": SOON, "users": [self.names["user"], self.names["other"]]}

    def users(self, scenario: Scenario) -> list[object]:
        """Return the users whose books the calls can change."""
        return [self.names["user"], *([self.names["other"]] if scenario.two_users else [])]


@dataclass(frozen=True)
class Step:
    """One step of a schedule: who did it, who could have, and what it was."""

    chosen: int
    ready: frozenset[int]
    label: str

    @property
    def letter(self) -> str:
        """The session's letter."""
        return string.ascii_uppercase[self.chosen]


Result = tuple[tuple[object, ...], str]
"""What must be the same as in some serial order: the outcomes, and the books."""


@dataclass(frozen=True)
class Played:
    """A schedule as it was played, and what it led to."""

    steps: Sequence[Step]
    result: Result


def word(steps: Sequence[Step]) -> str:
    """Return a schedule as a word."""
    return "".join(step.letter for step in steps)


def choices(schedule: str) -> list[int]:
    """Return the choices that a word stands for."""
    return [string.ascii_uppercase.index(letter) for letter in schedule]


def alternatives(
    steps: Sequence[Step], known: int, switches: int | None
) -> Iterator[tuple[int, ...]]:
    """
    Yield the beginnings of the schedules that differ from this one first at a step after `known`.

    `switches` bounds how often a session may be left that could have gone on.
    """
    chosen = tuple(step.chosen for step in steps)
    used = 0
    for depth, step in enumerate(steps):
        last = chosen[depth - 1] if depth else -1
        if depth >= known:
            for other in sorted(step.ready - {step.chosen}):
                if switches is None or used + (last in step.ready and other != last) <= switches:
                    yield (*chosen[:depth], other)
        used += last in step.ready and step.chosen != last


class UnexplainedError(AssertionError):
    """A schedule whose result no serial order explains, or that broke an invariant."""

    def __init__(self, scenario: Scenario, steps: Sequence[Step], why: str) -> None:
        self.schedule = word(steps)
        calls = zip(string.ascii_uppercase, scenario.calls, strict=False)
        lines = [
            f"{scenario.name}: {why}",
            *(f"  {letter}: {call.sql}" for letter, call in calls),
            *(f"    {step.letter} {step.label}" for step in steps),
            f"the schedule is {self.schedule}",
        ]
        super().__init__("\n".join(lines))
