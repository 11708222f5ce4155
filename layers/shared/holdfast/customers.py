"""Which Stripe customer each user is."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from holdfast.database import Database


@dataclass(frozen=True)
class Customer:
    """A user's customer, or None and the number to make one with."""

    stripe_customer_id: str | None
    number: int


class CustomerStore:
    """Keep one customer for each user; raises `UnavailableError` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, user_id: UUID) -> Customer:
        """Return the user's customer."""
        return Customer(**self._database.one("select * from backend.get_customer(%s)", (user_id,)))

    def link(self, user_id: UUID, number: int, customer_id: str) -> str | None:
        """Note a new customer and return the one that counts; None when that one was deleted meanwhile."""
        row = self._database.one(
            "select backend.link_customer(%s, %s, %s) as winner", (user_id, number, customer_id)
        )
        winner: str | None = row["winner"]
        return winner

    def forget(self, customer_id: str) -> None:
        """Note that Stripe has this customer no more."""
        self._database.one("select backend.forget_customer(%s, null) as outcome", (customer_id,))
