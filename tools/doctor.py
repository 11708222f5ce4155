"""
`make doctor`: whether a deployment's database and Stripe account are as the product needs them.

DATABASE_URL says which database (the owner's or the backend's role), STRIPE_API_KEY which Stripe account, and
STRIPE_LIVEMODE which of Stripe's two worlds it is meant to be. Only reads. Exit status 1 when something is to be done.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import stripe
from rich.console import Console
from rich.table import Table

from holdfast.catalog import catalog
from holdfast.errors import HoldfastError
from holdfast.stripe_client import translated_errors
from holdfast.stripe_events import EVENT_KINDS
from tools.stripe_catalog import CatalogPublisher, stripe_from_environment

MIGRATIONS = Path(__file__).resolve().parents[1] / "sql" / "migrations"
WEBHOOK_PATH = "/webhooks/stripe"
PARKED_SECONDS = 3600

console = Console(highlight=False)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `remedy` says what to do about it, None that it is well."""

    subject: str
    found: str
    remedy: str | None = None


def examine_database(url: str) -> Iterator[Finding]:
    """Yield what is to be said of the database."""
    try:
        connection = psycopg.connect(
            url, autocommit=True, prepare_threshold=None, connect_timeout=5
        )
    except psycopg.OperationalError as error:
        yield Finding("database", type(error).__name__, "check DATABASE_URL and the network")
        return
    with connection as database:
        wanted = {
            name
            for path in MIGRATIONS.glob("*.sql")
            for name in re.findall(r"create function ((?:ledger|backend)\.\w+)", path.read_text())
        }
        there = {
            name
            for (name,) in database.execute(
                "select n.nspname || '.' || p.proname from pg_proc p"
                " join pg_namespace n on n.oid = p.pronamespace"
                " where n.nspname in ('ledger', 'backend')"
            ).fetchall()
        }
        missing = sorted(wanted - there)
        if missing:
            yield Finding("migrations", f"{len(missing)} functions missing", "apply the migrations")
            return
        yield Finding("migrations", f"all {len(wanted)} functions are there")
        yield from _examine_parked(database)
        yield from _examine_mirror(database)


def _examine_parked(database: psycopg.Connection[Any]) -> Iterator[Finding]:
    row = database.execute("select backend.parked_older_than(%s)", (PARKED_SECONDS,)).fetchone()
    parked = row[0] if row else 0
    remedy = "see docs/operations.md, Parked events" if parked else None
    yield Finding("parked events", f"{parked or 'none'} for over an hour", remedy)


def _examine_mirror(database: psycopg.Connection[Any]) -> Iterator[Finding]:
    mirrored = {
        lookup_key: (amount_minor, currency)
        for lookup_key, amount_minor, currency in database.execute(
            "select lookup_key, amount_minor, currency from backend.list_catalog()"
        ).fetchall()
    }
    for listed in catalog().listed_prices():
        found = mirrored.get(listed.lookup_key)
        if found != (listed.amount_minor, listed.currency):
            yield Finding(
                f"mirrored price {listed.lookup_key}",
                "missing" if found is None else f"{found[0]} {found[1]}",
                "make stripe-catalog, then wait for the webhook or the sweep",
            )
    yield Finding("mirrored prices", f"{len(mirrored)} can be bought")


def examine_stripe(client: stripe.StripeClient, *, livemode: bool) -> Iterator[Finding]:
    """Yield what is to be said of the Stripe account; raises `HoldfastError` when it cannot be asked."""
    changes = list(CatalogPublisher(client).changes())
    for change in changes:
        yield Finding("catalogue", f"{change.what}: {change.why}", "make stripe-catalog")
    if not changes:
        yield Finding("catalogue", "Stripe's products and prices are those of catalog.toml")
    with translated_errors():
        endpoints = [
            endpoint
            for endpoint in client.v1.webhook_endpoints.list({"limit": 100}).auto_paging_iter()
            if endpoint.url.endswith(WEBHOOK_PATH)
        ]
    if not endpoints:
        yield Finding("webhook", f"no endpoint ends with {WEBHOOK_PATH}", "add it at Stripe")
    for endpoint in endpoints:
        yield from _examine_endpoint(endpoint, livemode=livemode)


def _examine_endpoint(endpoint: stripe.WebhookEndpoint, *, livemode: bool) -> Iterator[Finding]:
    subject = f"webhook {endpoint.url}"
    missing = set(EVENT_KINDS) - set(endpoint.enabled_events)
    if endpoint.livemode is not livemode:
        yield Finding(
            subject,
            f"livemode is {endpoint.livemode}",
            "use the key of the mode that STRIPE_LIVEMODE says",
        )
    if endpoint.status != "enabled":
        yield Finding(subject, endpoint.status, "enable it at Stripe")
    if endpoint.api_version != stripe.api_version:
        yield Finding(
            subject,
            f"API version {endpoint.api_version}",
            f"make a new endpoint with {stripe.api_version}",
        )
    if missing and "*" not in endpoint.enabled_events:
        yield Finding(subject, f"not sent: {', '.join(sorted(missing))}", "select them at Stripe")
    else:
        yield Finding(subject, "sends every event that is acted on")


def main() -> int:
    """Print the findings; return 0 when nothing is to be done."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        sys.exit("set DATABASE_URL to the product's database")
    client = stripe_from_environment()
    livemode = os.environ.get("STRIPE_LIVEMODE", "false").strip().lower() == "true"
    findings = list(examine_database(url))
    try:
        findings += examine_stripe(client, livemode=livemode)
    except HoldfastError as trouble:
        findings.append(Finding("Stripe", str(trouble), "check STRIPE_API_KEY and the network"))
    table = Table("looked at", "found", "to do")
    for finding in findings:
        table.add_row(finding.subject, finding.found, finding.remedy or "")
    console.print(table)
    return 1 if any(finding.remedy for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
