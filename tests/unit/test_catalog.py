"""The catalogue file."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from holdfast.catalog import Catalog, catalog


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
