"""The catalogue file."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from holdfast.catalog import Catalog, catalog
from holdfast.stripe_objects import read_price
from tests.unit.test_stripe_objects import PRICE


def pack(**changes: Any) -> dict[str, Any]:
    """Return a pack as the file has it, changed as asked."""
    return {
        "id": "starter",
        "name": "Starter",
        "credits": "10",
        "amount_minor": 1000,
        "currency": "usd",
        **changes,
    }


def test_the_shipped_packs_are_those_of_the_price_list() -> None:
    """Starter, builder and production: a dollar a credit."""
    assert [(p.id, p.credits, p.amount_minor, p.currency) for p in catalog().packs] == [
        ("starter", Decimal(10), 1000, "usd"),
        ("builder", Decimal(25), 2500, "usd"),
        ("production", Decimal(50), 5000, "usd"),
    ]


def test_an_unknown_pack_is_none() -> None:
    """Nothing is guessed from a name that is not there."""
    assert catalog().pack("gold") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"credits": 10.5},
        {"credits": "0"},
        {"credits": "1.0001"},
        {"amount_minor": 0},
        {"currency": "USD"},
        {"id": "Starter Pack"},
        {"price": 10},
    ],
)
def test_a_wrong_pack_stops_the_start(changes: dict[str, Any]) -> None:
    """Floats, too many decimals, free packs and unknown fields are refused when the file is read."""
    with pytest.raises(ValidationError):
        Catalog.model_validate({"packs": [pack(**changes)]})


def test_two_packs_of_one_id_stop_the_start() -> None:
    """An id names one pack."""
    with pytest.raises(ValidationError, match="same id"):
        Catalog.model_validate({"packs": [pack(), pack(name="Other")]})


def plan(**changes: Any) -> dict[str, Any]:
    """Return a plan as the file has it, changed as asked."""
    return {
        "id": "pro",
        "name": "Pro",
        "credits": "30",
        "prices": [{"interval": "month", "amount_minor": 2900}],
        **changes,
    }


def test_the_shipped_plans_are_those_of_the_price_list() -> None:
    """Free, pro and business, the paid ones by the month or the year."""
    assert [
        (p.id, p.credits, {price.interval: price.amount_minor for price in p.prices})
        for p in catalog().plans
    ] == [
        ("free", Decimal(0), {}),
        ("pro", Decimal(30), {"month": 2900, "year": 29000}),
        ("business", Decimal(60), {"month": 5900, "year": 59000}),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"credits": "0"},
        {"prices": [{"interval": "week", "amount_minor": 900}]},
        {"prices": [{"interval": "month", "amount_minor": 0}]},
        {"prices": [{"interval": "month", "amount_minor": n} for n in (1, 2)]},
        {"yearly": "sometimes"},
        {"grace_days": -1},
    ],
)
def test_a_wrong_plan_stops_the_start(changes: dict[str, Any]) -> None:
    """A sold plan grants something, each period has one price, and every field a known value."""
    with pytest.raises(ValidationError):
        Catalog.model_validate({"packs": [], "plans": [plan(**changes)]})


def test_every_price_has_a_lookup_key_of_its_own() -> None:
    """Prices are found at Stripe by their keys, so no two may share one."""
    keys = [listed.lookup_key for listed in catalog().listed_prices()]

    assert len(set(keys)) == len(keys) == 7
    assert "holdfast_pack_starter" in keys
    assert "holdfast_plan_pro_yearly" in keys


def terms(**changes: Any) -> Any:
    """Return what the shipped catalogue says a price grants."""
    return catalog().terms_of(read_price({**PRICE, **changes}))


def test_a_price_grants_what_the_catalogue_says() -> None:
    """Found by its lookup key: plan, period, credits, and the terms of the plan."""
    found = terms(metadata={})

    assert (found.kind, found.item_id, found.interval) == ("plan", "pro", "month")
    assert (found.credits, found.months) == (Decimal(30), 1)
    assert found.terms == {
        "priority": 50,
        "grace_days": 3,
        "yearly": "drip",
        "grants_without_payment": False,
    }


def test_a_price_keeps_what_is_written_on_it() -> None:
    """One that lost its lookup key to a newer price still is what it was, with its own credits."""
    found = terms(
        lookup_key=None,
        metadata={"holdfast_item": "plan:pro:month", "holdfast_credits": "25"},
    )

    assert (found.item_id, found.credits) == ("pro", Decimal(25))


@pytest.mark.parametrize("written", ["", "many", "1.23456", None])
def test_nonsense_on_a_price_counts_as_nothing_written(written: Any) -> None:
    """The catalogue's credits are taken then."""
    found = terms(metadata={"holdfast_item": "plan:pro:month", "holdfast_credits": written})

    assert found.credits == Decimal(30)


@pytest.mark.parametrize(
    "changes",
    [
        {"lookup_key": "somebody_elses", "metadata": {}},
        {"lookup_key": None, "metadata": None},
        {"metadata": {"holdfast_item": "plan:gone:month"}},
        {"metadata": {"holdfast_item": "plan:pro:year"}},
        {"metadata": {"holdfast_item": "pack:starter"}},
        {"recurring": None},
        {"recurring": {"interval": "week"}},
    ],
)
def test_a_price_that_fits_no_entry_grants_nothing(changes: dict[str, Any]) -> None:
    """Unknown items, and known ones of another period, are not guessed at."""
    assert terms(**changes) is None
