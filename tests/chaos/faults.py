"""
What goes wrong in a run, drawn from its seed.

Each place where something can go wrong has a name that does not depend on what other faults did (`user1#4` is the
fourth point of actor `user1`), and its own random source. So a fault can be left out and the others stay: that is how a
failing schedule is made small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

# How often each fault strikes a point of its kind, in percent; a run multiplies them by its intensity.
DATABASE = {
    "killed before": 0.5,
    "killed before the commit": 0.7,
    "killed after the commit": 0.8,
    "answer lost": 0.8,
    "connection broken before": 0.4,
}
HTTP = {
    "killed before": 1.0,
    "killed after": 1.5,
    "answer lost": 1.2,
    "answer too late": 0.8,
    "unreachable": 0.6,
    "answered 503": 0.6,
}
QUEUE = {
    "killed before": 2.0,
    "killed after": 2.0,
    "answer lost": 2.0,
    "unreachable": 2.0,
    "sent twice": 4.0,
    "delayed": 3.0,
    "message lost": 2.0,
}
ANSWER = {"answer lost": 2.0}
CALLBACK = {"lost": 4.0, "late": 5.0, "twice": 5.0}
PAYMENT = {"late": 5.0, "twice": 8.0, "lost": 8.0}
SWEEP = {"missed": 4.0, "twice": 8.0}
JOB = {
    "fails": 6.0,
    "stuck": 4.0,
    "stuck pending": 3.0,
    "canceled by the provider": 2.0,
    "fewer files": 4.0,
    "file missing": 3.0,
    "file of a wrong type": 3.0,
    "file cut once": 3.0,
    "callbacks dropped": 6.0,
    "callbacks reordered": 4.0,
    "callbacks duplicated": 4.0,
    "callback before the answer": 6.0,
    "cancel is billed": 3.0,
}
BUSY = {"overloaded": 3.0, "internal error": 2.0, "rate limited": 2.0}
REFUSAL = {"content policy": 1.5, "bad input": 1.0, "no such provider": 1.0}
SERVICES = ("database", "provider", "storage", "queue", "files", "stripe")
OUTAGE_PERCENT = 20.0
_LENGTHS = (5.0, 30.0, 120.0, 600.0)
_LONG_AWAY = ("provider", "storage", "queue")
_LONG_PART = 0.1
_LONG_SECONDS = 26 * 3600.0  # longer than the provider keeps an idempotency key
_STARTS = (5.0, 60.0, 300.0)  # before so many seconds of a run: most happens early


@dataclass(frozen=True)
class Outage:
    """A service that is away for a while; times are seconds from the start of the run."""

    key: str
    service: str
    start: float
    seconds: float


class Plan:
    """
    The faults of one seed.

    `only` lets no other faults happen than the named ones. `struck` fills with what did happen, by name.
    """

    def __init__(self, seed: int, only: frozenset[str] | None = None) -> None:
        self.seed = seed
        self.only = only
        self.struck: dict[str, str] = {}
        self.is_over = False
        self.intensity = self.random("intensity").choice((0.0, 0.5, 1.0, 1.0, 2.0, 4.0))

    def random(self, name: str) -> Random:
        """Return the random source of this name: always the same for one seed."""
        return Random(f"{self.seed}/{name}")

    def draw(self, key: str, percents: Mapping[str, float]) -> str:
        """Return the fault that strikes at `key`, an empty text for none."""
        if self.is_over or (self.only is not None and key not in self.only):
            return ""
        roll = self.random(key).random() * 100
        for kind, percent in percents.items():
            roll -= percent * self.intensity
            if roll < 0:
                self.struck[key] = kind
                return kind
        return ""

    def outages(self) -> list[Outage]:
        """Return which services go away, and when."""
        found = []
        for service in SERVICES:
            key = f"outage of {service}"
            if self.draw(key, {"away": OUTAGE_PERCENT}):
                random = self.random(f"{key}, when")
                length = random.choice(_LENGTHS)
                if service in _LONG_AWAY and random.random() < _LONG_PART:
                    length = _LONG_SECONDS
                found.append(
                    Outage(key, service, random.uniform(0, random.choice(_STARTS)), length)
                )
        return found

    def kinds(self) -> Counter[str]:
        """Return how often each kind of fault struck."""
        return Counter(self.struck.values())
