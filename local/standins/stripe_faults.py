"""The switches for what goes wrong between Stripe and the webhook."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass
class WebhookFaults:
    """
    What goes wrong on the way to the webhook; every switch is off by default.

    `duplicates` extra copies of each delivery (`concurrent`: all at the same moment), `twin` a second
    event id for each change, `shuffle` the events of one change in random order, `drop` types never
    delivered (still pending), `swallow` types not sent but counted as delivered, `hold` types kept
    back until they are released (pending meanwhile), each of the three also by chance (`drop_rate`,
    `swallow_rate`, `hold_rate`), `delay` seconds by type, `early` the webhook before the API's answer;
    the rest malforms each delivery in one way, except `second_secret`, which signs with two secrets as
    while one is rolled. Types may hold `*`.
    """

    duplicates: int = 0
    concurrent: bool = False
    twin: bool = False
    shuffle: bool = False
    drop: Collection[str] = ()
    drop_rate: float = 0.0
    swallow: Collection[str] = ()
    swallow_rate: float = 0.0
    hold: Collection[str] = ()
    hold_rate: float = 0.0
    delay: Mapping[str, float] = field(default_factory=dict)
    early: bool = False
    bad_secret: bool = False
    stale_timestamp: bool = False
    api_version: str | None = None
    livemode: bool | None = None
    second_secret: str | None = None

    def reset(self) -> None:
        """Switch everything off."""
        vars(self).update(vars(WebhookFaults()))

    def switch(self, options: Mapping[str, object]) -> None:
        """Set the named switches; raises `ValueError` for a name that is none."""
        known = {f.name for f in dataclasses.fields(self)}
        if unknown := set(options) - known:
            raise ValueError(f"no such webhook fault: {', '.join(sorted(unknown))}")
        vars(self).update(options)

    def fate(self, kind: str, chance: random.Random) -> str:
        """Return what becomes of an event: `dropped`, `swallowed`, `held` or `send`."""
        for fate, kinds, rate in (
            ("dropped", self.drop, self.drop_rate),
            ("swallowed", self.swallow, self.swallow_rate),
            ("held", self.hold, self.hold_rate),
        ):
            if matches(kind, kinds) or (rate and chance.random() < rate):
                return fate
        return "send"

    def delay_of(self, kind: str) -> float:
        """Return for how many seconds an event of this type is late."""
        return max(
            (s for pattern, s in self.delay.items() if fnmatchcase(kind, pattern)), default=0
        )


def matches(kind: str, patterns: Collection[str]) -> bool:
    """Tell whether a type is among `patterns`."""
    return any(fnmatchcase(kind, pattern) for pattern in patterns)
