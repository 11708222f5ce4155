"""Customers and subscriptions: one customer a user, and a plan that late readings cannot move backwards."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest

from tests.billing import START, Stripe, unix
from tests.factories import Backend, event_json, new_key, new_user

FORGET = "select backend.forget_customer(%s, %s::jsonb)"


@pytest.fixture(name="stripe")
def _stripe(backend: Backend) -> Stripe:
    return Stripe(backend)


def _plan(stripe: Stripe) -> Any:
    return stripe.row("select plan from backend.get_account(%s)", stripe.user)["plan"]


class TestCustomer:
    """One customer for each user."""

    def test_first(self, backend: Backend) -> None:
        """A user without a customer gets a number to create one with, the same each time."""
        stripe = Stripe(backend, linked=False)
        for _ in range(2):
            found = stripe.row("select * from backend.get_customer(%s)", stripe.user)
            assert found == {"stripe_customer_id": None, "number": 1}

    def test_two_links(self, stripe: Stripe) -> None:
        """Of two customers made for one user the first counts, and the second caller is told."""
        link = "select backend.link_customer(%s, 1, %s)"

        assert stripe.call(link, stripe.user, "cus_late") == stripe.customer
        assert stripe.call(link, stripe.user, stripe.customer) == stripe.customer

    def test_forgotten(self, stripe: Stripe) -> None:
        """A deleted customer's user gets the next number; the same event changes that once."""
        event = event_json()
        found = [stripe.call(FORGET, stripe.customer, event) for _ in range(2)]

        assert found == ["forgotten", "duplicate"]
        assert stripe.row("select * from backend.get_customer(%s)", stripe.user) == {
            "stripe_customer_id": None,
            "number": 2,
        }
        assert stripe.call(FORGET, stripe.customer, None) == "unknown"

    def test_link_that_comes_too_late(self, stripe: Stripe) -> None:
        """A customer made under a number that is over is not linked."""
        stripe.call(FORGET, stripe.customer, None)
        link = "select backend.link_customer(%s, %s, %s)"

        assert stripe.call(link, stripe.user, 1, "cus_old") is None
        assert stripe.call(link, stripe.user, 2, stripe.id("cus", 2)) == stripe.id("cus", 2)

    def test_adopted_from_a_session(self, backend: Backend) -> None:
        """The customer of a user's own paid session is linked, unless there is one or it was deleted."""
        stripe = Stripe(backend, linked=False)
        customers = iter((stripe.customer, "cus_second", stripe.customer))

        def pay() -> Any:
            checkout = backend.open_purchase(stripe.user)
            backend.checkout_event(checkout, customer_id=next(customers))
            found = stripe.row("select * from backend.get_customer(%s)", stripe.user)
            return found["stripe_customer_id"]

        assert [pay(), pay()] == [stripe.customer, stripe.customer]
        stripe.call(FORGET, stripe.customer, None)
        assert pay() is None

    def test_somebody_elses_customer(self, stripe: Stripe) -> None:
        """A session that names another user's customer links nothing."""
        checkout = stripe.backend.open_purchase(new_user())

        assert stripe.backend.checkout_event(checkout, customer_id=stripe.customer) == "granted"

        owner = stripe.db.value(
            "select user_id from backend.customers where stripe_customer_id = %s", stripe.customer
        )
        assert owner == stripe.user


class TestPlanCheckout:
    """A session in mode subscription."""

    def test_subscribed(self, backend: Backend) -> None:
        """A paid session links subscription and customer, and grants nothing."""
        checkout = backend.open_purchase(interval="month")
        customer = new_key("cus")
        event = new_key("evt")

        found = [
            backend.checkout_event(checkout, event=each, customer_id=customer, amount_minor=0)
            for each in (event, event, None)
        ]

        assert found == ["subscribed", "duplicate", "already_granted"]
        row = backend.db.row("select * from purchases where id = %s", checkout.purchase)
        assert (row["status"], row["stripe_subscription_id"]) == ("paid", checkout.subscription)
        assert backend.ledger.kinds(checkout.user) == []

    def test_delayed_method(self, backend: Backend) -> None:
        """A pending session links its subscription already; a failed one is shown."""
        checkout = backend.open_purchase(interval="month")

        assert backend.checkout_event(checkout, "pending") == "pending"
        row = backend.db.row("select * from purchases where id = %s", checkout.purchase)
        assert (row["status"], row["stripe_subscription_id"]) == ("pending", checkout.subscription)
        assert backend.checkout_event(checkout, "failed") == "closed"

    def test_first_plan(self, stripe: Stripe) -> None:
        """Only who never had a plan buys their first, which may begin with a trial."""
        other = stripe.backend.purchase(new_user(), interval="month")
        first = stripe.backend.purchase(stripe.user, interval="month")
        pack = stripe.backend.purchase(stripe.user)
        stripe.subscribe(stripe.price(), "canceled")
        second = stripe.backend.purchase(stripe.user, interval="month")

        found = [each["is_first_plan"] for each in (other, first, pack, second)]
        assert found == [True, True, False, False]

    def test_mode_must_fit(self, backend: Backend) -> None:
        """A plan's purchase is not paid by a session of the other mode."""
        checkout = backend.open_purchase(interval="year")

        assert backend.checkout_event(checkout, mode="payment") == "session_mismatch"

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            *[
                (status, "already_subscribed")
                for status in (
                    "active",
                    "trialing",
                    "past_due",
                    "unpaid",
                    "paused",
                    "incomplete",
                )
            ],
            ("canceled", "created"),
            ("incomplete_expired", "created"),
        ],
    )
    def test_already_subscribed(self, stripe: Stripe, status: str, outcome: str) -> None:
        """Who has a live subscription changes it in the portal; packs are sold all the same."""
        stripe.subscribe(stripe.price(), status)

        answer = stripe.backend.purchase(stripe.user, interval="month")

        assert answer["outcome"] == outcome
        assert (answer["purchase_id"] is None) == (outcome != "created")
        assert stripe.backend.purchase(stripe.user)["outcome"] == "created"

    def test_rival_sessions(self, backend: Backend) -> None:
        """A new page of a plan names the user's others that are open, or paid without a subscription we know."""
        user = new_user()
        states = (None, "pending", "paid", "failed", "expired")
        earlier = [backend.open_purchase(user, interval="month") for _ in states]
        for checkout, state in zip(earlier, states, strict=True):
            if state:
                backend.checkout_event(checkout, state)
        backend.open_purchase(user)
        backend.open_purchase(interval="month")
        purchase = backend.purchase(user, interval="year")["purchase_id"]

        first, again = (backend.attached(purchase, f"cs_test_{purchase}") for _ in range(2))

        assert first["outcome"] == "attached"
        assert first["rival_sessions"] == [checkout.session for checkout in earlier[:3]]
        assert again == first

    def test_a_packs_page_has_no_rivals(self, backend: Backend) -> None:
        """A pack may be paid beside a plan."""
        checkout = backend.open_purchase(interval="month")
        pack = backend.purchase(checkout.user)["purchase_id"]

        assert not backend.attached(pack, f"cs_test_{pack}")["rival_sessions"]

    @pytest.mark.parametrize(
        ("status", "outcome"), [("incomplete", "already_subscribed"), ("canceled", "attached")]
    )
    def test_subscribed_meanwhile(self, stripe: Stripe, status: str, outcome: str) -> None:
        """A plan that began while the page was made is told, unless it is over; it is no rival any more."""
        backend = stripe.backend
        earlier = backend.open_purchase(stripe.user, interval="month")
        purchase = backend.purchase(stripe.user, interval="month")["purchase_id"]
        backend.checkout_event(earlier, subscription_id=stripe.subscription)
        stripe.subscribe(stripe.price(), status)

        answer = backend.attached(purchase, f"cs_test_{purchase}")

        assert answer["outcome"] == outcome
        assert not answer["rival_sessions"]

    def test_the_page_that_was_paid_stays_attached(self, stripe: Stripe) -> None:
        """A page whose own subscription is known already is not refused for it."""
        checkout = stripe.backend.open_purchase(stripe.user, interval="month")
        stripe.backend.checkout_event(checkout, subscription_id=stripe.subscription)
        stripe.subscribe(stripe.price())

        assert stripe.backend.attach(checkout.purchase, checkout.session) == "attached"


class TestSubscription:
    """The mirrored subscription."""

    def test_recorded(self, stripe: Stripe) -> None:
        """A subscription shows as the account's plan and moves no credits."""
        assert stripe.subscribe(stripe.price(), cancel_at_period_end=True) == "recorded"

        plan = _plan(stripe)
        assert plan.pop("current_period_end").startswith("2026-04-01T00:00:00")
        assert plan == {
            "plan_id": "pro",
            "interval": "month",
            "status": "active",
            "cancel_at_period_end": True,
        }
        assert stripe.ledger.kinds(stripe.user) == []

    def test_every_order_of_readings(self, backend: Backend) -> None:
        """Readings written in any order leave the one begun last."""
        for order in itertools.permutations(range(3)):
            stripe = Stripe(backend)
            price = stripe.price()
            tickets = [stripe.ticket() for _ in range(3)]
            states = ("incomplete", "active", "past_due")
            for number in order:
                stripe.subscribe(price, states[number], ticket=tickets[number])
            assert _plan(stripe)["status"] == "past_due", order

    @pytest.mark.parametrize("final", ["canceled", "incomplete_expired"])
    def test_final(self, stripe: Stripe, final: str) -> None:
        """What ended stays ended, though its end may be told more exactly."""
        price = stripe.price()
        stripe.subscribe(price, final)

        assert stripe.subscribe(price, "active") == "stale"
        ended = unix(START + timedelta(days=3))
        assert stripe.subscribe(price, final, ended_at=ended) == "recorded"
        assert _plan(stripe) is None
        kept = stripe.db.row("select * from subscriptions where id = %s", stripe.subscription)
        assert (kept["status"], kept["ended_at"]) == (final, START + timedelta(days=3))

    def test_same_event(self, stripe: Stripe) -> None:
        """The same event is a duplicate; a reading of the same ticket is stale."""
        price, event, ticket = stripe.price(), new_key("evt"), stripe.ticket()

        found = [
            stripe.subscribe(price, event=event, ticket=ticket),
            stripe.subscribe(price, event=event),
            stripe.subscribe(price, ticket=ticket),
        ]

        assert found == ["recorded", "duplicate", "stale"]

    def test_second(self, stripe: Stripe) -> None:
        """A second live subscription is recorded and reported; an ended one is none."""
        price = stripe.price()
        stripe.subscribe(price)
        other = stripe.id("sub", 2)

        assert stripe.subscribe(price, id=other) == "recorded_second"
        assert stripe.subscribe(price, "canceled") == "recorded"
        assert stripe.subscribe(price, id=other) == "recorded"

    def test_change_of_plan(self, stripe: Stripe) -> None:
        """After a change of price the account shows the new plan."""
        stripe.subscribe(stripe.price("pro"))
        stripe.subscribe(stripe.price("business", months=12))

        assert (_plan(stripe)["plan_id"], _plan(stripe)["interval"]) == ("business", "year")

    def test_off_the_catalogue(self, stripe: Stripe) -> None:
        """One moved by hand to a price of no plan keeps its plan's name, alarms, is read as often, and ends."""
        stripe.subscribe(stripe.price("pro"))
        odd = stripe.price("odd", kind=None, item_id=None, credits=None)

        assert stripe.subscribe(odd, "past_due") == "off_catalog"
        assert (_plan(stripe)["plan_id"], _plan(stripe)["status"]) == ("pro", "past_due")
        ticket = stripe.ticket()
        assert stripe.subscribe(odd, "canceled") == "recorded"
        assert stripe.subscribe(odd, ticket=ticket) == "stale"
        assert stripe.backend.purchase(stripe.user, interval="month")["outcome"] == "created"

    def test_unknown_status(self, stripe: Stripe) -> None:
        """A status we do not know changes nothing and says so."""
        price = stripe.price()
        stripe.subscribe(price)

        assert stripe.subscribe(price, "dormant") == "unknown_status"
        assert _plan(stripe)["status"] == "active"

    def test_whose(self, backend: Backend) -> None:
        """One that carries our metadata or price but is of nobody we know waits; a foreign one is ignored."""
        stripe = Stripe(backend, linked=False)
        price, event = stripe.price(), new_key("evt")
        odd = stripe.price("odd", kind=None, item_id=None, credits=None)

        assert stripe.subscribe("price_strange", user_id=None) == "ignored"
        assert stripe.subscribe("price_strange") == "parked"
        assert stripe.subscribe(price, user_id=None) == "parked"
        assert stripe.subscribe(odd) == "ignored"
        assert stripe.subscribe(price, event=event) == "parked"
        checkout = backend.open_purchase(stripe.user, interval="month")
        backend.checkout_event(checkout, subscription_id=stripe.subscription)
        assert stripe.subscribe(price, event=event) == "recorded"

    def test_unknown_price(self, stripe: Stripe) -> None:
        """A price that is not mirrored yet is waited for."""
        event = new_key("evt")
        assert stripe.subscribe(stripe.id("price", "late"), event=event) == "parked"

        assert stripe.subscribe(stripe.price("late"), event=event) == "recorded"
