"""Stripe's products and prices, mirrored: what sells, and what an old invoice may still need."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest

from tests.billing import Stripe
from tests.factories import Backend, event_json, new_key


@pytest.fixture(name="stripe")
def _stripe(backend: Backend) -> Stripe:
    return Stripe(backend)


def _sold(stripe: Stripe) -> list[dict[str, Any]]:
    found = stripe.ledger.calls.execute("select * from backend.list_catalog()").fetchall()
    return [row for row in found if stripe.tag in row["price_id"]]


def _product(
    stripe: Stripe, *, active: bool = True, deleted: bool = False, ticket: int | None = None
) -> str:
    return str(
        stripe.call(
            "select backend.record_product(%s::jsonb, %s, %s, 'Pro', %s, %s)",
            event_json(),
            stripe.ticket() if ticket is None else ticket,
            stripe.id("prod"),
            active,
            deleted,
        )
    )


def test_sold(stripe: Stripe) -> None:
    """A live price of ours is in the catalogue, and found by its lookup key."""
    price = stripe.price()

    assert _sold(stripe) == [
        {
            "price_id": price,
            "kind": "plan",
            "item_id": "pro",
            "interval": "month",
            "credits": Decimal(30),
            "amount_minor": 2900,
            "currency": "usd",
            "lookup_key": f"key_{price}",
        }
    ]
    assert stripe.row("select * from backend.find_price(%s)", f"key_{price}") == {
        "price_id": price,
        "credits": Decimal(30),
        "amount_minor": 2900,
        "currency": "usd",
    }


@pytest.mark.parametrize(
    "change",
    [{"active": False}, {"deleted": True}, {"lookup_key": None}, {"kind": None, "item_id": None}],
    ids=str,
)
def test_not_sold(stripe: Stripe, change: dict[str, Any]) -> None:
    """What is archived, deleted, without a key or not ours is not for sale."""
    price = stripe.price(**change)

    assert _sold(stripe) == []
    found = stripe.ledger.calls.execute(
        "select * from backend.find_price(%s)", (f"key_{price}",)
    ).fetchall()
    assert found == []


@pytest.mark.parametrize("order", list(itertools.permutations(["price", "off"])), ids="-".join)
@pytest.mark.parametrize("change", [{"active": False}, {"deleted": True}], ids=str)
def test_product(stripe: Stripe, order: tuple[str, ...], change: dict[str, bool]) -> None:
    """A price sells only while its product does, whichever was mirrored first."""
    for step in order:
        if step == "price":
            stripe.price()
        else:
            _product(stripe, **change)

    assert _sold(stripe) == []
    _product(stripe)
    assert len(_sold(stripe)) == (1 if "active" in change else 0)  # deleted is for ever


def test_older_readings(stripe: Stripe) -> None:
    """An older reading of a price or product changes nothing."""
    tickets = [stripe.ticket() for _ in range(2)]
    stripe.price(active=False, ticket=tickets[1])
    stripe.price(ticket=tickets[0])
    assert stripe.recorded_price == "stale"
    assert _sold(stripe) == []

    assert _product(stripe, ticket=tickets[1]) == "recorded"
    assert _product(stripe, active=False, ticket=tickets[0]) == "stale"


def test_same_event(stripe: Stripe) -> None:
    """The same event is a duplicate."""
    event = new_key("evt")
    for outcome in ("recorded", "duplicate"):
        stripe.price(event=event)
        assert stripe.recorded_price == outcome


def test_deleted_with_few_fields(stripe: Stripe) -> None:
    """A deleted price, known or not, may come with nothing but its id."""
    stripe.price()
    gone: dict[str, Any] = dict.fromkeys(
        ("product_id", "lookup_key", "currency", "kind", "item_id", "interval")
    )
    for name in ("pro", "never seen"):
        stripe.price(name, deleted=True, active=None, **gone)
        assert stripe.recorded_price == "recorded"

    assert _sold(stripe) == []
    assert stripe.invoice(stripe.line(stripe.id("price", "pro"))) == "granted"


def test_key_moves_on(stripe: Stripe) -> None:
    """The price that took over the key sells; the old one still grants what it always did."""
    old = stripe.price("old", item_id="pro")
    new = stripe.price("new", item_id="pro", credits_=40)
    stripe.price("old", lookup_key=None, kind=None, item_id=None, credits=None)

    assert [row["price_id"] for row in _sold(stripe)] == [new]
    assert stripe.invoice(stripe.line(old)) == "granted"
    assert stripe.ledger.balance(stripe.user).available == 30


def test_terms_may_change_until_it_granted(stripe: Stripe) -> None:
    """What a price grants follows the catalogue until it granted once, and then stays."""
    price = stripe.price(credits_=10)
    stripe.price(credits_=20)
    stripe.invoice(stripe.line(price))
    stripe.price(credits_=30)
    stripe.invoice(stripe.line(price, number=2), number=2)

    assert stripe.ledger.balance(stripe.user).available == 40


def test_pack_price(stripe: Stripe) -> None:
    """A pack's price sells and is no plan: an invoice of it grants nothing."""
    price = stripe.price("starter", kind="pack", interval=None)

    assert [(row["kind"], row["interval"]) for row in _sold(stripe)] == [("pack", None)]
    assert stripe.invoice(stripe.line(price)) == "ignored"
