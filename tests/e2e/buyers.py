"""
Users at Stripe: what they pay there, and what an operator, a bank or time does to it.

What a user can do goes over HTTP, to the product or to Stripe's own pages; the rest are the stand-in's controls. Each
deed returns when its webhooks are through.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx

from local.standins.stripe import Stripe
from tests.e2e.people import Json, Person
from tests.e2e.world import World

WEBHOOK = "StripeWebhookFunction"
SWEEP = "RecoverySweepFunction"


class Buyer:
    """A fresh user without credits, and their dealings with Stripe."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.person: Person = world.person()

    @property
    def stripe(self) -> Stripe:
        """The stand-in."""
        return self.world.stack.stripe

    @property
    def available(self) -> str:
        """The credits that can be spent."""
        return self.person.credits()[0]

    @property
    def plan(self) -> Json | None:
        """The plan as the account shows it."""
        found: Json | None = self.person.get("/account")["plan"]
        return found

    @property
    def grants(self) -> list[Json]:
        """The grants that are not used up, in the order they are spent."""
        found: list[Json] = self.person.get("/account")["grants"]
        return found

    @property
    def customers(self) -> list[str]:
        """The user's customers at Stripe, newest first."""
        return [customer["id"] for customer in self._own("customer")]

    @property
    def pages(self) -> list[Json]:
        """The user's payment pages at Stripe, newest first."""
        return self._own("checkout.session")

    def _own(self, kind: str) -> list[Json]:
        return [
            found
            for found in self.stripe.state.newest(kind)
            if found["metadata"].get("user_id") == self.person.id
        ]

    # --- buying ---

    def checkout(self, **wish: str) -> str:
        """Open a payment page and return its session."""
        answer = self.person.http.post("/checkout", json=wish)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["session_id"])

    def buy(self, pack_id: str = "starter") -> str:
        """Buy a pack and return its payment."""
        return str(self.pay(self.checkout(pack_id=pack_id))["payment_intent"])

    def subscribe(self, plan_id: str = "pro", interval: str = "month") -> str:
        """Subscribe and return the subscription."""
        return str(self.pay(self.checkout(plan_id=plan_id, interval=interval))["subscription"])

    def pay(self, session_id: str) -> Json:
        """Pay at the page of a session."""
        paid = self.stripe.pay(session_id)
        self.stripe.drain(30)
        return paid

    def status(self, session_id: str) -> str:
        """Return what became of a session, as the page the user comes back to is told."""
        return str(self.person.get(f"/checkout/{session_id}")["status"])

    # --- what happens at Stripe ---

    def happens(self, name: str, *args: Any, **options: Any) -> Json:
        """Use a control of the stand-in and wait until the webhooks are through."""
        done: Json = getattr(self.stripe, name)(*args, **options)
        self.stripe.drain(30)
        return done

    def at_portal(self, subscription: str, action: str, price: str = "") -> None:
        """Press a button of the billing portal: `cancel`, `resume` or `change`."""
        answer = self.person.http.post("/billing-portal", json={})
        assert answer.status_code == 201, answer.text
        form = {"action": action, "subscription": subscription, "price": price}
        httpx.post(answer.json()["url"], data=form, timeout=30).raise_for_status()
        self.stripe.drain(30)

    def at_stripe(self, path: str, **form: str) -> Json:
        """Call Stripe's API as the operator."""
        return at_stripe(self.world, path, **form)

    def invoices(self, subscription: str) -> list[Json]:
        """Return the invoices of a subscription, newest first."""
        return [
            found
            for found in self.stripe.state.newest("invoice")
            if found["parent"]["subscription_details"]["subscription"] == subscription
        ]

    def payment_of(self, subscription: str) -> str:
        """Return the payment of a subscription's newest invoice."""
        invoice = self.invoices(subscription)[0]
        (payment,) = self.stripe.state.payments_of(invoice).objects
        return str(payment["payment"]["payment_intent"])

    def half_through(self, subscription: str) -> None:
        """Let half of the paid period be over, without moving the clock of everybody else."""
        (item,) = self.stripe.state.get("subscription", subscription)["items"]["data"]
        now, end = self.stripe.now(), item["current_period_end"]
        item["current_period_start"] = now - (end - now)

    def spend(self, amount: str) -> None:
        """Use credits up."""
        job = str(uuid4())
        (row,) = self.world.rows(
            "select ledger.reserve(%s, %s, %s) as outcome", self.person.id, job, amount
        )
        assert row["outcome"] == "reserved"
        self.world.db.execute("select ledger.settle(%s, %s)", (job, amount))


def at_stripe(world: World, path: str, **form: str) -> Json:
    """Call Stripe's API as the operator, and wait until the webhooks are through."""
    stripe = world.stack.stripe
    headers = {"authorization": f"Bearer {world.stack.secrets['STRIPE_API_KEY']}"}
    answer = httpx.post(f"{stripe.url}/v1/{path}", data=form, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    stripe.drain(30)
    found: Json = answer.json()
    return found


def price_id(world: World, lookup_key: str) -> str:
    """Return the price that has a lookup key at Stripe now."""
    (found,) = (
        price
        for price in world.stack.stripe.state.newest("price")
        if price["lookup_key"] == lookup_key
    )
    return str(found["id"])
