"""
Billing under two sessions at once.

What meets on one payment, invoice, subscription or user ends as if one had waited for the other, and nobody waits for
each other in a circle: a deadlock would show as SQLSTATE 40P01.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.billing import (
    RECORD_INVOICE,
    RECORD_PAYMENT,
    RECORD_REVERSAL,
    RECORD_SUBSCRIPTION,
    START,
    Stripe,
)
from tests.clock import Clock
from tests.factories import RECORD_CHECKOUT, Backend, event_json, new_key, new_user
from tests.racing import Step, first_value, outcome_or_sqlstate, overlap, race, race_steps

Steps = dict[str, Step]


def call(query: Any, *params: object) -> Step:
    """Return a step that runs one statement and returns its outcome, or the SQLSTATE it raised."""
    return outcome_or_sqlstate(lambda connection: first_value(connection, query, params))


def reversal(stripe: Stripe, pi: str, cents: int, number: object = 1, status: str = "lost") -> Step:
    """Return a step that records a dispute; the ticket is taken now."""
    fields = {
        "id": stripe.id("dp", number),
        "kind": "dispute",
        "payment_intent_id": pi,
        "amount_minor": cents,
        "currency": "usd",
        "status": status,
    }
    return call(RECORD_REVERSAL, event_json(), stripe.ticket(), json.dumps(fields))


def _pack_story(backend: Backend) -> tuple[Stripe, Steps]:
    stripe = Stripe(backend)
    checkout = backend.open_purchase(stripe.user, 100, 1000)
    backend.ledger.grant(stripe.user, 5)
    reservation = backend.ledger.reserve(stripe.user, 5)
    session = json.dumps(checkout.state("paid", customer_id=stripe.customer))
    event = event_json()
    return stripe, {
        "session": call(RECORD_CHECKOUT, event, session),
        "same event": call(RECORD_CHECKOUT, event, session),
        "other event": call(RECORD_CHECKOUT, event_json(), session),
        "reconciling": call(RECORD_CHECKOUT, None, session),
        "refund": reversal(stripe, checkout.payment_intent, 500),
        "other refund": reversal(stripe, checkout.payment_intent, 250, 2),
        "won": reversal(stripe, checkout.payment_intent, 500, status="won"),
        "settle": call("select ledger.settle(%s, 2)", reservation),
        "customer deleted": call("select backend.forget_customer(%s, null)", stripe.customer),
    }


def _invoice_story(backend: Backend) -> tuple[Stripe, Steps]:
    stripe = Stripe(backend)
    price, pi = stripe.price(credits_=100), stripe.id("pi")
    first = stripe.invoice_json(stripe.line(price, 1000, days=30))
    listed = stripe.invoice_json(stripe.line(price, 1000, days=30), payments={pi: 1000})
    credit = stripe.line(price, -250, 2, start=START + timedelta(days=1), days=29, proration=True)
    event = event_json()
    return stripe, {
        "invoice": call(RECORD_INVOICE, event, first),
        "same event": call(RECORD_INVOICE, event, first),
        "with its payment": call(RECORD_INVOICE, None, listed),
        "payment": call(RECORD_PAYMENT, event_json(), stripe.id("in", 1), pi, 1000, "usd"),
        "refund": reversal(stripe, pi, 500),
        "credit": call(RECORD_INVOICE, event_json(), stripe.invoice_json(credit, number=2)),
    }


@pytest.mark.parametrize(
    ("first", "second"),
    list(
        itertools.product(
            ["session", "same event", "other event", "reconciling", "refund", "other refund", "won",
             "settle", "customer deleted"],
            repeat=2,
        )
    ),
    ids=str,
)  # fmt: skip
def test_pack(backend: Backend, first: str, second: str) -> None:
    """Two calls about one pack end as one after the other."""
    _assert_serial(backend, _pack_story, first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    list(
        itertools.product(
            ["invoice", "same event", "with its payment", "payment", "refund", "credit"], repeat=2
        )
    ),
    ids=str,
)
@pytest.mark.parametrize(
    "before", [[], ["invoice"], ["payment"], ["refund"], ["payment", "refund"]]
)
def test_invoice(backend: Backend, before: list[str], first: str, second: str) -> None:
    """Two calls about one invoice end as one after the other, and all that is missing after them fits in."""

    def story(backend: Backend) -> tuple[Stripe, Steps]:
        stripe, steps = _invoice_story(backend)
        for each in before:
            steps[each](backend.calls)
        return stripe, steps

    _assert_serial(backend, story, first, second)
    stripe, steps = story(backend)
    overlap(backend.db, steps[first], steps[second])
    for step in ("with its payment", "refund", "credit"):
        steps[step](backend.calls)
    # half of the payment went back, and a quarter of the time was credited
    assert backend.ledger.balance(stripe.user).available == 25


def _assert_serial(
    backend: Backend, story: Callable[[Backend], tuple[Stripe, Steps]], first: str, second: str
) -> None:
    def end(order: Callable[[Steps], list[object]]) -> object:
        stripe, steps = story(backend)
        outcomes = order(steps)
        assert backend.ledger.audit(stripe.user) == []
        grants = [(g["amount"], g["reversed"]) for g in backend.ledger.grants(stripe.user).values()]
        owned = backend.db.value(
            "select count(*) from payment_reversals where user_id = %s", stripe.user
        )
        return outcomes, sorted(grants), backend.ledger.balance(stripe.user), owned

    overlapped = end(lambda s: list(overlap(backend.db, s[first], s[second])))
    forward = end(lambda s: [s[first](backend.calls), s[second](backend.calls)])
    backward = end(lambda s: [s[second](backend.calls), s[first](backend.calls)][::-1])

    assert overlapped in (forward, backward)


class TestDrip:
    """The months of yearly plans."""

    @pytest.mark.own_database
    def test_two_drips(self, backend: Backend, clock: Clock) -> None:
        """Two drips at once grant each month once, to everybody."""
        stories = [_yearly(backend, clock.now()) for _ in range(12)]
        clock.advance(days=70)

        counts = race(backend.db, 4, "select backend.drip_due(%s)", lambda _: (100,))
        counts.append(backend.ledger.call("select backend.drip_due(100)"))

        assert sum(counts) == 24
        assert backend.ledger.expire_due() == 12  # the first month of each is over
        assert {backend.ledger.balance(s.user).available for s in stories} == {Decimal(60)}
        assert backend.ledger.audit() == []

    @pytest.mark.own_database
    def test_drips_that_meet_the_same_users(self, backend: Backend, clock: Clock) -> None:
        """Drips that would take the same users' balances the opposite way round do not block each other."""
        users = [_yearly(backend, clock.now()) for _ in range(10)]
        for stripe in reversed(users):
            clock.advance(seconds=1)
            _renew(stripe, clock.now())
        clock.advance(days=35)

        outcomes = race_steps(backend.db, [call("select backend.drip_due(10)")] * 4)

        assert "40P01" not in outcomes, outcomes
        assert (
            sum(outcomes)
            + sum(backend.ledger.call("select backend.drip_due(10)") for _ in range(2))
            == 20
        )
        assert backend.ledger.audit() == []

    @pytest.mark.own_database
    def test_beside_upgrades(self, backend: Backend, clock: Clock) -> None:
        """A drip beside invoices that grant and credit the same subscriptions blocks nobody."""
        stories = [_yearly(backend, clock.now()) for _ in range(12)]
        clock.advance(days=35)
        steps = [call("select backend.drip_due(100)") for _ in range(2)]
        for stripe in stories:
            price = stripe.id("price", "pro")
            rest: dict[str, Any] = {"start": clock.now(), "days": 300, "proration": True}
            lines = stripe.line(price, 6000, 3, **rest), stripe.line(price, -6000, 2, **rest)
            steps.append(call(RECORD_INVOICE, None, stripe.invoice_json(*lines, number=2)))
        random.Random(7).shuffle(steps)

        outcomes = race_steps(backend.db, steps)

        assert "40P01" not in outcomes, outcomes
        backend.ledger.call("select backend.drip_due(100)")
        for stripe in stories:
            rows = backend.ledger.grants(stripe.user).values()
            assert sorted((g["amount"], g["reversed"]) for g in rows) == [
                (30, 15),
                (30, 15),
                (180, 0),
            ]
        assert backend.ledger.audit() == []

    @pytest.mark.own_database
    @pytest.mark.parametrize("drip_first", [False, True])
    @pytest.mark.parametrize("what", ["refund", "credit"])
    def test_beside_a_reversal(
        self, backend: Backend, clock: Clock, what: str, *, drip_first: bool
    ) -> None:
        """A month and a reversal at once: the month is reversed too, whoever was first."""
        stripe = _yearly(backend, clock.now())
        clock.advance(days=35)
        drip = call("select backend.drip_due(100)")
        if what == "refund":
            other = reversal(stripe, stripe.id("pi"), 6000)
        else:
            credit = stripe.line(
                stripe.id("price", "pro"), -6000, 2, start=clock.now(), days=300, proration=True
            )
            other = call(RECORD_INVOICE, None, stripe.invoice_json(credit, number=2))

        overlap(backend.db, *((drip, other) if drip_first else (other, drip)))
        backend.ledger.call("select backend.drip_due(100)")  # what was held is taken the next time

        grants = [(g["amount"], g["reversed"]) for g in backend.ledger.grants(stripe.user).values()]
        # two months; the first had expired unspent, but is reversed all the same
        assert grants == [(30, 15), (30, 15)]
        assert backend.ledger.audit() == []


def _yearly(backend: Backend, start: datetime) -> Stripe:
    stripe = Stripe(backend)
    price = stripe.price(months=12, amount_minor=12000)
    line = stripe.line(price, 12000, start=start, days=365)
    assert stripe.invoice(line, payments={stripe.id("pi"): 12000}) == "granted"
    return stripe


def _renew(stripe: Stripe, start: datetime) -> None:
    line = stripe.line(stripe.id("price", "pro"), 12000, "again", start=start, days=365)
    assert stripe.invoice(line, number="again") == "granted"


class TestCustomers:
    """One user, many checkouts."""

    def test_twenty_links(self, backend: Backend) -> None:
        """Twenty customers made for one user at once: all are told the same one."""
        stripe = Stripe(backend, linked=False)
        stripe.row("select * from backend.get_customer(%s)", stripe.user)

        winners = race(
            backend.db,
            20,
            "select backend.link_customer(%s, 1, %s)",
            lambda number: (stripe.user, stripe.id("cus", number)),
        )

        assert len(set(winners)) == 1

    def test_twenty_first_looks(self, backend: Backend) -> None:
        """Twenty looks at a user nobody has seen make one row."""
        stripe = Stripe(backend, linked=False)

        numbers = race(
            backend.db,
            20,
            "select number from backend.get_customer(%s)",
            lambda _: (stripe.user,),
        )

        assert numbers == [1] * 20


class TestSubscriptions:
    """Readings that cross."""

    @pytest.mark.parametrize("inverted", [False, True])
    def test_readings(self, backend: Backend, *, inverted: bool) -> None:
        """Two readings written at once: the one begun last stays."""
        stripe = Stripe(backend)
        price = stripe.price()
        old, new = (
            call(
                RECORD_SUBSCRIPTION,
                event_json(),
                stripe.ticket(),
                stripe.subscription_json(price, s),
            )
            for s in ("active", "past_due")
        )

        outcomes = overlap(backend.db, *((new, old) if inverted else (old, new)))

        assert outcomes == (("recorded", "stale") if inverted else ("recorded", "recorded"))
        assert (
            backend.db.value("select status from subscriptions where id = %s", stripe.subscription)
            == "past_due"
        )

    def test_two_of_one_user(self, backend: Backend) -> None:
        """Of two subscriptions recorded at once one is reported as the second."""
        stripe = Stripe(backend)
        price = stripe.price()
        one, two = (
            call(
                RECORD_SUBSCRIPTION,
                event_json(),
                stripe.ticket(),
                stripe.subscription_json(price, id=stripe.id("sub", n)),
            )
            for n in (1, 2)
        )

        assert overlap(backend.db, one, two) == ("recorded", "recorded_second")

    def test_two_pages_of_one_user(self, backend: Backend) -> None:
        """Of two plans' pages attached at once the second is told of the first."""
        user = new_user()
        sessions = [new_key("cs_test") for _ in range(2)]
        purchases = [backend.purchase(user, interval="month")["purchase_id"] for _ in sessions]

        rivals = overlap(
            backend.db,
            *(
                call(
                    "select rival_sessions from backend.attach_checkout_session(%s, %s)",
                    purchase,
                    session,
                )
                for purchase, session in zip(purchases, sessions, strict=True)
            ),
        )

        assert rivals == ([], sessions[:1])


@pytest.mark.parametrize("seed", range(4))
def test_everything_at_once(backend: Backend, seed: int) -> None:
    """All facts of one user from many sessions at once, each twice: no deadlock, and the end of any order."""
    chance = random.Random(seed)
    stripe = Stripe(backend)
    price, pi = stripe.price(credits_=100), [stripe.id("pi", n) for n in range(3)]
    lines = [
        stripe.line(price, 1000, n, start=START + timedelta(days=30 * n), days=30) for n in (0, 1)
    ]
    credit = stripe.line(price, -250, 9, start=START + timedelta(days=31), days=29, proration=True)
    checkout = backend.open_purchase(stripe.user, 10, 1000)
    facts = [
        call(RECORD_INVOICE, None, stripe.invoice_json(lines[0], number=0)),
        call(RECORD_INVOICE, None, stripe.invoice_json(lines[1], number=1, payments={pi[1]: 500})),
        call(RECORD_INVOICE, None, stripe.invoice_json(credit, number=2)),
        call(RECORD_PAYMENT, None, stripe.id("in", 0), pi[0], 1000, "usd"),
        call(RECORD_PAYMENT, None, stripe.id("in", 1), pi[2], 500, "usd"),
        call(RECORD_CHECKOUT, None, json.dumps(checkout.state("paid"))),
        reversal(stripe, pi[0], 100, 1),
        reversal(stripe, pi[1], 500, 2),
        reversal(stripe, pi[2], 250, 3),
        reversal(stripe, checkout.payment_intent, 500, 4),
        call("select backend.drip_due(10)"),
    ] * 2
    chance.shuffle(facts)

    outcomes = Counter(race_steps(backend.db, facts))

    assert "40P01" not in outcomes, outcomes
    # 90 of 100; a quarter credited and three quarters refunded of 100; half of 10
    assert backend.ledger.balance(stripe.user).available == 95
    assert backend.ledger.audit(stripe.user) == []
