"""What becomes of Stripe's events on the way: lost, late, doubled, in another order, tried again."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from local.standins.stripe_wire import Json

DROPPED = 1 / 3
_SWALLOWED = 1 / 2  # of the dropped: Stripe believes that they arrived
_DUPLICATED = 0.25
_LATE = 0.3
_RETRIES = (60, 300, 1800, 7200, 18_000, 36_000)
"""Seconds of Stripe's back-off; after the last one an event stays undelivered."""


@dataclass(order=True, frozen=True)
class Letter:
    """One copy of an event, under way until `due` (unix seconds)."""

    due: int
    number: int
    event: Json = field(compare=False)
    attempt: int = field(compare=False, default=0)


class Post:
    """The way from Stripe to the webhook. Everything on it is drawn from the seed."""

    def __init__(self, random: Random, totals: Counter[str]) -> None:
        self.is_reliable = False
        self._random = random
        self._totals = totals
        self._letters: list[Letter] = []
        self.sent = 0
        """How many letters there were; each has its number."""
        self._hours = random.choice((1, 6, 48))

    def __len__(self) -> int:
        return len(self._letters)

    def collect(self, events: Sequence[Json]) -> list[str]:
        """Take the events of a change; return those that Stripe is to believe delivered, although they are lost."""
        swallowed = []
        for event in events:
            self._totals["events"] += 1
            fate = 1.0 if self.is_reliable else self._random.random()
            if fate < DROPPED * _SWALLOWED:
                self._totals["swallowed"] += 1
                swallowed.append(event["id"])
            elif fate < DROPPED:
                self._totals["undelivered"] += 1
            else:
                self._send(event, event["created"] + self._delay())
                while not self.is_reliable and self._random.random() < _DUPLICATED:
                    self._totals["duplicates"] += 1
                    self._send(event, event["created"] + self._delay())
        return swallowed

    def _delay(self) -> int:
        if self.is_reliable:
            return 0
        if self._random.random() < _LATE:
            self._totals["late"] += 1
            return 3600 + int(self._random.expovariate(1 / (self._hours * 3600)))
        return self._random.randrange(120)

    def _send(self, event: Json, due: int, attempt: int = 0) -> None:
        self.sent += 1
        heapq.heappush(self._letters, Letter(due, self.sent, event, attempt))

    @property
    def next_due(self) -> int | None:
        """When the next one arrives."""
        return self._letters[0].due if self._letters else None

    def take(self) -> Letter:
        """Take the one that arrives next off the way."""
        return heapq.heappop(self._letters)

    def take_newer(self, number: int) -> list[Letter]:
        """Take those that were sent after so many, before their time."""
        newer = [letter for letter in self._letters if letter.number > number]
        self._letters = [letter for letter in self._letters if letter.number <= number]
        heapq.heapify(self._letters)
        return newer

    def failed(self, letter: Letter, now: int) -> None:
        """Try again later, as Stripe does, or give up."""
        self._totals["failed deliveries"] += 1
        if letter.attempt < len(_RETRIES):
            self._send(letter.event, now + _RETRIES[letter.attempt], letter.attempt + 1)
