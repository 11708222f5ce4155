"""
Stripe as a run has it: its time stands still until the run moves it, and it hands its events over instead of posting.

The API is the stand-in's own, over HTTP. Its ids come from the seed, so that a run can be repeated.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from random import Random
from unittest.mock import patch

from holdfast.stripe_events import EVENT_KINDS
from local.standins.stripe import Stripe
from local.standins.stripe_clock import Clock
from local.standins.stripe_wire import Json

API_KEY = "sk_test_chaos"
WEBHOOK_SECRET = "whsec_chaos"


class StillClock(Clock):
    """Time that only `advance` moves."""

    def __init__(self, at: int) -> None:
        self._at = at

    def now(self) -> int:
        """Return the present second."""
        return self._at

    def move_to(self, at: int) -> None:
        """Make `at` the present, unless it has passed."""
        self._at = max(self._at, at)


class ChaosStripe(Stripe):
    """The stand-in; `collect` gets the events of each change, `post` each delivery and answers its status."""

    def __init__(
        self,
        start: int,
        seed: int,
        collect: Callable[[Sequence[Json]], None],
        post: Callable[[bytes, str], int],
    ) -> None:
        super().__init__(API_KEY, "http://127.0.0.1:1/webhooks/stripe", WEBHOOK_SECRET, seed=seed)
        self.state.clock = StillClock(start)
        self.webhooks.enabled_events = tuple(EVENT_KINDS)
        self._collect = collect
        self.webhooks.send = self._hand_over  # type: ignore[method-assign]
        self.webhooks._post = lambda body: post(body, self.sign(body))  # type: ignore[method-assign]

    def _hand_over(self, events: Sequence[Json]) -> threading.Event:
        self._collect([event for event in events if self.webhooks.wants(event["type"])])
        done = threading.Event()
        done.set()
        return done


@contextlib.contextmanager
def ids_from(random: Random) -> Iterator[None]:
    """Draw the ids of Stripe's objects from `random`."""
    with patch("local.standins.stripe_objects.secrets", random):
        yield
