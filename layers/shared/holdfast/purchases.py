"""Purchases: what a user set out to buy, and what Stripe says became of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from holdfast.billing import CheckoutEvent
from holdfast.catalog import Pack
from holdfast.database import Database
from holdfast.errors import RateLimitedError


class CheckoutOutcome(StrEnum):
    """What a Checkout event did, or why it did nothing."""

    GRANTED = "granted"
    SUBSCRIBED = "subscribed"
    DUPLICATE = "duplicate"
    ALREADY_GRANTED = "already_granted"
    PENDING = "pending"
    CLOSED = "closed"
    IGNORED = "ignored"
    PARKED = "parked"
    SESSION_MISMATCH = "session_mismatch"
    USER_MISMATCH = "user_mismatch"
    AMOUNT_MISMATCH = "amount_mismatch"
    CURRENCY_MISMATCH = "currency_mismatch"

    @property
    def is_suspicious(self) -> bool:
        """Say whether somebody should look: money may have moved without credits."""
        return self.endswith("_mismatch") or self is CheckoutOutcome.PARKED


@dataclass(frozen=True)
class Checkout:
    """A user's own purchase, as they may see it."""

    purchase_id: UUID
    kind: str
    item_id: str
    interval: str | None
    credits: Decimal
    status: str
    created_at: datetime
    paid_at: datetime | None


class PurchaseStore:
    """Write and read purchases; raises `UnavailableError` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, user_id: UUID, pack: Pack, *, per_hour: int) -> UUID:
        """Write a purchase of `pack` and return its id; raises `RateLimitedError`."""
        row = self._database.one(
            "select * from backend.create_purchase(%s, 'pack', %s, null, %s, %s, %s, %s)",
            (user_id, pack.id, pack.credits, pack.amount_minor, pack.currency, per_hour),
        )
        if row["outcome"] == "rate_limited":
            raise RateLimitedError(
                "Too many checkouts in the last hour.", retry_after=row["retry_after_seconds"]
            )
        purchase_id: UUID = row["purchase_id"]
        return purchase_id

    def attach_session(self, purchase_id: UUID, session_id: str) -> None:
        """Note the Checkout Session of a purchase."""
        self._database.one(
            "select backend.attach_checkout_session(%s, %s) as outcome", (purchase_id, session_id)
        )

    def checkout(self, user_id: UUID, session_id: str) -> Checkout | None:
        """Return the user's own purchase by its session, if it is theirs."""
        rows = self._database.all(
            "select * from backend.get_checkout(%s, %s)", (user_id, session_id)
        )
        return Checkout(**rows[0]) if rows else None

    def record(self, event: CheckoutEvent) -> CheckoutOutcome:
        """Apply a verified Checkout event, once: gate, purchase and grant in one transaction."""
        row = self._database.one(
            "select backend.record_checkout(%s, %s) as outcome",
            (
                json.dumps(
                    {
                        "id": event.id,
                        "type": event.type,
                        "created": event.created,
                        "object_id": event.session_id,
                    }
                ),
                json.dumps(
                    {
                        "id": event.session_id,
                        "mode": event.mode,
                        "state": event.state,
                        "purchase_id": event.purchase_id,
                        "user_id": event.user_id,
                        "amount_minor": event.amount_minor,
                        "currency": event.currency,
                        "payment_intent_id": event.payment_intent_id,
                        "customer_id": event.customer_id,
                        "subscription_id": event.subscription_id,
                    }
                ),
            ),
        )
        return CheckoutOutcome(row["outcome"])
