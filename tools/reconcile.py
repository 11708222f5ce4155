"""
`make reconcile SINCE=2026-11-01`: compare with Stripe by hand, after an incident.

Goes the way of the sweep and of the webhooks, so it may run beside them and be repeated. DATABASE_URL says whose books
(the backend's role suffices), STRIPE_API_KEY whose Stripe.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr
from rich.console import Console

from holdfast.billing import BillingStore
from holdfast.catalog import catalog
from holdfast.database import Database
from holdfast.errors import HoldfastError
from holdfast.reconciliation import ReconciliationStore
from holdfast.stripe_reader import StripeReader, Window
from holdfast.usecases.apply_stripe import StripeApplier
from holdfast.usecases.reconcile import Reconciler
from tools.stripe_catalog import stripe_from_environment

console = Console(highlight=False)


def main(arguments: list[str] | None = None) -> int:
    """Compare day by day and say what each repaired; return 0 when it came to the end."""
    parser = argparse.ArgumentParser(prog="make reconcile", description=__doc__)
    parser.add_argument("--since", type=_day, required=True, metavar="YYYY-MM-DD")
    options = parser.parse_args(arguments)
    url = os.environ.get("DATABASE_URL")
    if not url:
        parser.error("set DATABASE_URL to the product's database")
    database = Database(SecretStr(url), application_name="holdfast-reconcile")
    reader = StripeReader(stripe_from_environment())
    reconciler = Reconciler(
        ReconciliationStore(database),
        reader,
        StripeApplier(BillingStore(database, catalog()), reader),
        every_seconds=1,
    )
    now, start, repaired = datetime.now(UTC), options.since, 0
    try:
        while start < now:
            end = min(start + timedelta(days=1), now)
            changed = reconciler.compare(Window(start, end))
            console.print(f"{start:%Y-%m-%d}: {changed or 'nothing'} repaired")
            start, repaired = end, repaired + changed
    except HoldfastError as trouble:
        console.print(f"stopped at {start:%Y-%m-%d}: {trouble}")
        return 1
    console.print(f"{repaired} balances changed")
    return 0


def _day(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
