"""
`make stripe-catalog`: bring Stripe's products and prices up to date with `catalog.toml`.

Shows what it would change and asks before it changes anything. Prices are found by their lookup keys. A price never
changes at Stripe: another amount, or other credits, is a new price that takes the lookup key over, and whoever pays the
old one goes on doing so. Nothing is deleted. STRIPE_API_KEY says whose Stripe.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import stripe
from rich.console import Console
from rich.table import Table

from holdfast.catalog import ListedPrice, catalog
from holdfast.errors import HoldfastError
from holdfast.stripe_client import connect, translated_errors
from holdfast.stripe_objects import CREDITS_METADATA, ITEM_METADATA, PriceState
from holdfast.stripe_reader import StripeReader
from tools.asking import is_agreed

console = Console(highlight=False)


@dataclass(frozen=True)
class Change:
    """One thing to do at Stripe."""

    what: str
    why: str
    run: Callable[[], object]


class CatalogPublisher:
    """Compare the catalogue with Stripe's prices, and make them alike."""

    def __init__(self, client: stripe.StripeClient) -> None:
        self._v1 = client.v1
        self._reader = StripeReader(client)

    def changes(self) -> Iterator[Change]:
        """Yield what is to be done, in order; nothing when Stripe is up to date."""
        products: set[str] = set()
        for listed in catalog().listed_prices():
            if listed.product_id not in products:
                products.add(listed.product_id)
                yield from self._product_changes(listed)
            why = _drift(listed, self._reader.price_of(listed.lookup_key))
            if why is not None:
                create = partial(self._create_price, listed)
                yield Change(f"create price {listed.lookup_key}", why, create)

    def _product_changes(self, listed: ListedPrice) -> Iterator[Change]:
        found = self._reader.product(listed.product_id)
        if found is None:
            yield Change(
                f"create product {listed.product_id}",
                "there is no such product",
                lambda: self._create_product(listed),
            )
        elif found.name != listed.product_name or not found.active:
            yield Change(
                f"update product {listed.product_id}",
                f"its name is {found.name!r}" if found.active else "it is archived",
                lambda: self._v1.products.update(
                    listed.product_id, {"name": listed.product_name, "active": True}
                ),
            )

    def _create_product(self, listed: ListedPrice) -> None:
        self._v1.products.create({"id": listed.product_id, "name": listed.product_name})

    def _create_price(self, listed: ListedPrice) -> None:
        params: Any = {
            "product": listed.product_id,
            "currency": listed.currency,
            "unit_amount": listed.amount_minor,
            "lookup_key": listed.lookup_key,
            "transfer_lookup_key": True,
            "metadata": {
                ITEM_METADATA: listed.item,
                CREDITS_METADATA: f"{listed.credits:f}",
            },
        }
        if listed.interval is not None:
            params["recurring"] = {"interval": listed.interval}
        self._v1.prices.create(params)


def _drift(listed: ListedPrice, found: PriceState | None) -> str | None:
    """Say how the price at Stripe differs from the catalogue, if it does."""
    if found is None:
        return "there is no active price with this lookup key"
    sides: dict[str, tuple[object, object]] = {
        "amount": (listed.amount_minor, found.amount_minor),
        "currency": (listed.currency, found.currency),
        "interval": (listed.interval, found.interval),
        "item": (listed.item, found.item),
        "credits": (f"{listed.credits:f}", found.credits),
    }
    differing = (
        f"{name} is {theirs}, not {ours}"
        for name, (ours, theirs) in sides.items()
        if ours != theirs
    )
    return ", ".join(differing) or None


def stripe_from_environment() -> stripe.StripeClient:
    """Return the client of STRIPE_API_KEY (and STRIPE_API_BASE); ends the program when it is not set."""
    api_key = os.environ.get("STRIPE_API_KEY", "").strip()
    if not api_key:
        sys.exit("set STRIPE_API_KEY to the key of the Stripe account")
    return connect(api_key, os.environ.get("STRIPE_API_BASE", "").strip() or None)


def main(arguments: list[str] | None = None) -> int:
    """Show the plan and carry it out when agreed; return 0 when Stripe is up to date."""
    parser = argparse.ArgumentParser(prog="make stripe-catalog", description=__doc__)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(arguments)
    publisher = CatalogPublisher(stripe_from_environment())
    try:
        changes = list(publisher.changes())
        if not changes:
            console.print("Stripe is up to date with the catalogue")
            return 0
        table = Table("change", "because")
        for change in changes:
            table.add_row(change.what, change.why)
        console.print(table)
        if not options.yes and not is_agreed(console):
            console.print("nothing was done")
            return 1
        with translated_errors():
            for change in changes:
                change.run()
                console.print(f"{change.what}: done")
    except HoldfastError as trouble:
        console.print(f"Stripe: {trouble}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
