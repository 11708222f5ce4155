"""
One run's surroundings: Stripe, the way of its events, two processes of the product, the database, and time.

Everything happens in one thread, in an order drawn from the seed. What overlaps in production (two processes that read
and write the same objects) overlaps here as well: between an answer of Stripe's and the product's next step another
process may do its work, the object may change, or the database may go away.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Self

from holdfast.catalog import Catalog
from holdfast.errors import HoldfastError
from holdfast.stripe_events import EVENT_KINDS
from holdfast.stripe_reader import Window
from tests.chaos_stripe.post import Letter, Post
from tests.chaos_stripe.product import Product
from tests.chaos_stripe.standin import ChaosStripe, ids_from
from tests.chaos_stripe.trouble import DATABASE_AWAY, OBJECT_CHANGES, Trouble
from tests.clock import Clock
from tests.database import TestDatabase

_KIND = re.compile(r"/v1/(?:checkout/)?(\w+)(?:/\w+)?$")
_TWINS = 0.2
"""How often each change is told twice, under two ids."""


@dataclass(frozen=True)
class Terms:
    """What is sold in a run, and how long it lasts."""

    catalog: Catalog
    days: int


class World:
    """Use as a context manager."""

    def __init__(self, seed: int, database: TestDatabase, terms: Terms) -> None:
        self.seed = seed
        self.terms = terms
        self.database = database
        self.totals: Counter[str] = Counter()
        self.trail: list[str] = []
        self.crashes: list[str] = []
        """What the product raised that it should not have."""
        self.is_over = False
        """Whether everything is back and stays."""
        self.disturb: Callable[[str, str], None] = lambda *_: None
        """Changes the object at Stripe that is being read; set by the story."""
        self.random = self.source("world")
        self.post = Post(self.source("post"), self.totals)
        self.trouble = Trouble(self.random, self.totals, database, self.note)
        self._depth = 0
        self._sweep_every = self.random.choice((None, None, terms.days * 86_400 // 7))
        self.start = datetime(2030, 1, 1, 12, tzinfo=UTC) + timedelta(
            days=self.random.randrange(365)
        )
        self._swept_at = int(self.start.timestamp())
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(ids_from(self.source("ids")))
            self.clock = Clock.install(self.database)
            self.clock.set(self.start)
            self.stripe = stack.enter_context(
                ChaosStripe(int(self.start.timestamp()), self.seed, self._collect, self._receive)
            )
            self.product = self._process(answered=self._answered, draw=self.trouble.line_fault)
            stack.callback(self.product.close)
            self.other = self._process(draw=self.trouble.line_fault)
            stack.callback(self.other.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _process(self, **faults: Callable[..., object]) -> Product:
        url = self.database.url("holdfast_backend")
        return Product(url, self.stripe.url, self.terms.catalog, lambda: self.now, **faults)  # type: ignore[arg-type]

    def source(self, name: str) -> Random:
        """Return the random source of this name: always the same for one seed."""
        return Random(f"{self.seed}/{name}")

    @property
    def now(self) -> datetime:
        """The time, the same for Stripe, the product and the database."""
        return datetime.fromtimestamp(self.stripe.now(), UTC)

    def note(self, text: str) -> None:
        """Write a line into the trail."""
        self.trail.append(f"{self.now:%m-%d %H:%M:%S} {'  ' * self._depth}{text}")

    # --- time ---

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and what falls due in it happen."""
        until = self.stripe.now() + int(seconds)
        self.stripe.webhook_faults.twin = not self.is_over and self.random.random() < _TWINS
        while self.stripe.now() < until:
            due = [until, self.post.next_due, self.trouble.back_at, self._next_sweep]
            next_ = min(max(at, self.stripe.now()) for at in due if at is not None)
            self._advance(next_ - self.stripe.now())
            self._tick()
        self._tick()

    def _tick(self) -> None:
        now = self.stripe.now()
        if self.trouble.back_at is not None and now >= self.trouble.back_at:
            self.trouble.bring_database_back()
        while self.post.next_due is not None and self.post.next_due <= now:
            self.deliver(self.post.take())
        if self._next_sweep is not None and now >= self._next_sweep:
            self._swept_at = now
            self.sweep()

    def _advance(self, seconds: int) -> None:
        if seconds:
            self.stripe.advance(seconds)
            self.clock.set(self.now)

    @property
    def _next_sweep(self) -> int | None:
        return None if self._sweep_every is None else self._swept_at + self._sweep_every

    # --- events ---

    def _collect(self, events: list[dict[str, object]]) -> None:
        if self.stripe.webhook_faults.twin:
            self.totals["twins"] += len(events) // 2
        for event_id in self.post.collect(events):
            self.stripe._mark_delivered(event_id)

    def deliver(self, letter: Letter) -> None:
        """Deliver one copy of an event."""
        self.totals["deliveries"] += 1
        self.trouble.perhaps_break_stripe(self.stripe)
        status = self.stripe.deliver(letter.event)
        event = letter.event
        self.note(f"{event['type']} {short(event['data']['object'].get('id'))} -> {status}")
        if status != 200:
            self.post.failed(letter, self.stripe.now())

    def _receive(self, body: bytes, signature: str) -> int:
        product = self.other if self._depth else self.product
        try:
            product.receiver.receive(body, signature)
        except HoldfastError as trouble:
            self.told(trouble)
            return int(trouble.status)
        except Exception as error:  # noqa: BLE001 - told as a violation
            self.report(error, "the webhook raised")
            return 500
        return 200

    def told(self, trouble: HoldfastError) -> None:
        """Take what the product answers when it cannot do what it was asked."""
        self.note(f"{trouble.code}: {trouble.reason or trouble}")
        if trouble.status == 500:
            self.report(trouble, trouble.reason or "")

    def report(self, error: BaseException, message: str) -> None:
        """Take what the product did not expect, also in the place of its own report."""
        self.crashes.append(f"crash: {message}: {type(error).__name__}: {error}")

    # --- what goes wrong ---

    def _answered(self, method: str, url: str, body: str) -> None:
        """Let something happen between an answer of Stripe's and what the product does with it."""
        kind = _KIND.search(url.partition("?")[0])
        if self._depth or not kind or method != "get":
            return
        answer = json.loads(body)
        read = [each["id"] for each in answer.get("data", [answer]) if "id" in each]
        if not read:
            return
        changed = self.random.choice(read)
        self._depth += 1
        try:
            if self.trouble.strikes(OBJECT_CHANGES, 0.15):
                self.note(f"*** {short(changed)} changes while it is read")
                known = self.post.sent
                self.disturb(kind[1], changed)
                if self.is_over or self.random.random() < 0.7:
                    for letter in self.post.take_newer(known):
                        self.deliver(letter)
            if self.trouble.strikes(DATABASE_AWAY, 0.01):
                self.trouble.take_database_away(self.stripe.now(), 30, 600, 7200)
        finally:
            self._depth -= 1

    def perhaps_take_database_away(self) -> bool:
        """Let the database go away for a while, if it did not too often."""
        strikes = self.trouble.strikes(DATABASE_AWAY, 1.0)
        if strikes:
            self.trouble.take_database_away(self.stripe.now(), 60, 3600, 6 * 3600)
        return strikes

    def everything_is_back(self) -> None:
        """End all faults. What is under way stays under way."""
        self.stripe.webhook_faults.reset()
        self.is_over = True
        self.trouble.end()
        self.post.is_reliable = True
        self._sweep_every = None
        self.stripe.faults.clear()
        self.trouble.bring_database_back()
        self.note("--- everything is back")

    def pass_an_hour(self) -> None:
        """Let an hour pass in which no event arrives."""
        self._advance(3600)

    def deliver_the_rest(self, share: float) -> None:
        """Deliver all that is under way or was never delivered, and a share of all others once more."""
        while len(self.post):
            self.deliver(self.post.take())
        for event in reversed(self.stripe.state.newest("event")):
            if event["type"] not in EVENT_KINDS:
                continue
            if event["pending_webhooks"] or self.random.random() < share:
                self.deliver(Letter(self.stripe.now(), 0, event))

    # --- the sweep ---

    def sweep(self) -> None:
        """Compare with Stripe as the schedule does, and expire what is due."""
        self.totals["sweeps"] += 1
        self.trouble.perhaps_break_stripe(self.stripe)
        try:
            done = self.product.reconciler.run(lambda: True)
            self.totals["repaired by sweeps"] += done.repaired
            self.note(f"swept: {done}")
            self.product.database.one("select ledger.expire_due() as expired")
        except HoldfastError as trouble:
            self.told(trouble)
        except Exception as error:  # noqa: BLE001 - told as a violation
            self.report(error, "the sweep raised")

    def reconcile(self, *, changes: int = 0) -> int:
        """
        Compare all there ever was with Stripe, as `make reconcile` does, then sweep; return the repairs.

        Meanwhile up to so many objects change, and the webhook tells of them at once.
        """
        self.trouble.allow(OBJECT_CHANGES, changes)
        window = Window(self.start - timedelta(hours=1), self.now)
        repaired = self.product.reconciler.compare(window)
        for name in ("recent", "late"):
            self.product.store.advance(name, self.now)  # a sweep would go the same days again
        done = self.product.reconciler.run(lambda: True)
        self.trouble.end()
        self.note(f"reconciled: {repaired} repaired, then {done}")
        return repaired + done.repaired + done.months_granted


def short(name: object) -> str:
    """Return a name of Stripe's that a person can read."""
    text = str(name)
    return text if len(text) < 16 else f"{text.partition('_')[0]}_{text[-6:]}"
