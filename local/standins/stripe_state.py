"""
What the stand-in for Stripe remembers: objects by kind, and the events of the change under way.

Every change runs inside `State.change()`, which holds the one lock. Events are frozen copies taken
at the moment of the change; whoever made it sends them after the lock is free.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from local.standins import stripe_objects
from local.standins.stripe_clock import Clock
from local.standins.stripe_webhooks import Webhooks
from local.standins.stripe_wire import Json, Listing, no_such


class State:
    """All objects of one account in test mode."""

    def __init__(self, base_url: str, webhooks: Webhooks) -> None:
        self.base_url = base_url
        self.webhooks = webhooks
        self.lock = threading.RLock()
        self.clock = Clock()
        self.line_items: dict[str, list[Json]] = {}
        """What each checkout session sells."""
        self.orders: dict[str, Json] = {}
        """The parameters each checkout session was made with."""
        self.invoice_lines: dict[str, list[Json]] = {}
        """Every line of each invoice; the invoice itself shows the first ones."""
        self.pending_lines: dict[str, list[Json]] = {}
        """Prorations of each subscription that wait for its next invoice."""
        self.portal_configuration: str | None = stripe_objects.new_id("bpc")
        """The portal's default configuration; None: it was never saved."""
        self.broken_cards: set[str] = set()
        """Customers whose card is declined at the next charge."""
        self.deleted: dict[str, Json] = {}
        """What is left of deleted customers."""
        self._objects: dict[str, dict[str, Json]] = {}
        self._emitted: list[Json] = []
        self._request: Json | None = None

    @contextmanager
    def change(self, request: Json | None = None) -> Iterator[list[Json]]:
        """
        Hold the lock; the list it yields has, on the way out, the events the change emitted.

        `request` is what those events name as their cause. Events of a change that raised are
        kept: what was emitted did happen.
        """
        events: list[Json] = []
        with self.lock:
            self._request = request
            try:
                yield events
            finally:
                events.extend(self._emitted)
                self._emitted = []
                self._request = None

    def add(self, thing: Json) -> Json:
        """Keep a new object and return it."""
        self._objects.setdefault(thing["object"], {})[thing["id"]] = thing
        return thing

    def now(self) -> int:
        """Return the present second of the account."""
        return self.clock.now()

    def remove(self, thing: Json) -> None:
        """Forget an object; events that carry it stay."""
        del self._objects[thing["object"]][thing["id"]]

    def get(self, kind: str, object_id: str, param: str | None = "id") -> Json:
        """Return the live object; raises `StripeError` naming `param` when there is none."""
        thing = self._objects.get(kind, {}).get(object_id)
        if thing is None:
            raise no_such(kind, object_id, param)
        return thing

    def has(self, kind: str, object_id: str) -> bool:
        """Tell whether there is such an object."""
        return object_id in self._objects.get(kind, {})

    def newest(self, kind: str) -> list[Json]:
        """Return all objects of a kind, newest first."""
        return list(reversed(self._objects.get(kind, {}).values()))

    def emit(self, kind: str, subject: Json, previous: Json | None = None) -> None:
        """Record an event about `subject` as it is now."""
        event = stripe_objects.event(
            kind, copy.deepcopy(subject), self.now(), copy.deepcopy(previous), self._request
        )
        self._emitted.append(self.add(event))

    def twin(self, event: Json) -> Json:
        """Record a second event with an id of its own for the change `event` tells of."""
        return self.add({**copy.deepcopy(event), "id": stripe_objects.new_id("evt")})

    def listing(self, kind: str, url: str, params: Json, filters: tuple[str, ...] = ()) -> Listing:
        """Return the objects of a kind that fit `created` and the named parameters."""
        fits = params.get("created", lambda _at: True)
        return Listing(
            [
                thing
                for thing in self.newest(kind)
                if fits(thing["created"])
                and all(thing.get(name) == params[name] for name in filters if name in params)
            ],
            url,
        )

    def lines_of(self, session: Json) -> Listing:
        """Return what a checkout session sells."""
        session_id = session["id"]
        url = f"/v1/checkout/sessions/{session_id}/line_items"
        return Listing(self.line_items[session_id], url)

    def payments_of(self, invoice: Json) -> Listing:
        """Return the payments of an invoice, newest first."""
        invoice_id = invoice["id"]
        found = [p for p in self.newest("invoice_payment") if p["invoice"] == invoice_id]
        return Listing(found, f"/v1/invoice_payments?invoice={invoice_id}")

    def subscriptions_of(self, customer_id: str) -> list[Json]:
        """Return what a customer is subscribed to, oldest first, ended ones apart."""
        return [
            each
            for each in reversed(self.newest("subscription"))
            if each["customer"] == customer_id and not each["ended_at"]
        ]

    def update(self, subject: Json, changes: Json, event: str) -> None:
        """Apply `changes` to `subject` and emit `event`; nothing happens when none is one."""
        previous = {k: _previous(subject[k], v) for k, v in changes.items() if subject[k] != v}
        if not previous:
            return
        if "updated" in subject:
            previous["updated"] = subject["updated"]
            changes = {**changes, "updated": self.now()}
        subject.update(changes)
        self.emit(event, subject, previous)


def _previous(old: Any, new: Any) -> Any:
    """Return `old`; of a mapping only the keys that differ, null for those that were not there."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {k: old.get(k) for k in {**old, **new} if old.get(k) != new.get(k)}
    return old
