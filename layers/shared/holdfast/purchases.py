"""Purchases: what a user set out to buy, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from holdfast.database import Database
from holdfast.errors import AlreadySubscribedError, RateLimitedError


@dataclass(frozen=True)
class Offer:
    """
    What is about to be bought, with the terms the purchase keeps.

    `credits` are those of a pack, or of one month of a plan; `amount_minor` is in the currency's minor unit.
    """

    kind: Literal["pack", "plan"]
    item_id: str
    interval: str | None
    credits: Decimal
    amount_minor: int
    currency: str
    priority: int
    expires_days: int | None


@dataclass(frozen=True)
class NewPurchase:
    """A purchase as just written; `is_first_plan` for a plan of a user who never had one."""

    id: UUID
    is_first_plan: bool


@dataclass(frozen=True)
class Checkout:
    """A user's own purchase, as they may see it."""

    purchase_id: UUID
    kind: Literal["pack", "plan"]
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

    def create(self, user_id: UUID, offer: Offer, *, per_hour: int) -> NewPurchase:
        """Write a purchase; raises `RateLimitedError`, `AlreadySubscribedError`."""
        row = self._database.one(
            "select * from backend.create_purchase(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                user_id,
                offer.kind,
                offer.item_id,
                offer.interval,
                offer.credits,
                offer.amount_minor,
                offer.currency,
                per_hour,
                offer.priority,
                offer.expires_days,
            ),
        )
        if row["outcome"] == "rate_limited":
            raise RateLimitedError(
                "Too many checkouts in the last hour.", retry_after=row["retry_after_seconds"]
            )
        if row["outcome"] == "already_subscribed":
            raise AlreadySubscribedError
        return NewPurchase(row["purchase_id"], row["is_first_plan"])

    def attach_session(self, purchase_id: UUID, session_id: str) -> list[str]:
        """
        Note the Checkout Session of a purchase; return the user's other sessions that could become a second plan.

        Raises `AlreadySubscribedError` when a plan has begun since the purchase was written.
        """
        row = self._database.one(
            "select * from backend.attach_checkout_session(%s, %s)", (purchase_id, session_id)
        )
        if row["outcome"] == "already_subscribed":
            raise AlreadySubscribedError
        return row["rival_sessions"] or []

    def checkout(self, user_id: UUID, session_id: str) -> Checkout | None:
        """Return the user's own purchase by its session, if it is theirs."""
        rows = self._database.all(
            "select * from backend.get_checkout(%s, %s)", (user_id, session_id)
        )
        return Checkout(**rows[0]) if rows else None
