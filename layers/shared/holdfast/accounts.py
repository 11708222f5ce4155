"""What a user sees of their money: the balance, the open grants, the entries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from holdfast.database import Database
from holdfast.vocabulary import EntryType


@dataclass(frozen=True)
class Account:
    """
    A user's credits and plan. `grants` are those with something left, in spending order.

    `has_billing` says whether they are a customer at Stripe, and so have a billing portal.
    """

    available: Decimal
    reserved: Decimal
    owed: Decimal
    grants: list[dict[str, Any]]
    plan: dict[str, Any] | None
    has_billing: bool


@dataclass(frozen=True)
class Entry:
    """One ledger entry."""

    id: int
    type: EntryType
    available_delta: Decimal
    reserved_delta: Decimal
    owed_delta: Decimal
    available_after: Decimal | None
    reservation_id: UUID | None
    description: str | None
    created_at: datetime


class AccountReader:
    """Read one user's account; raises `UnavailableError` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def account(self, user_id: UUID) -> Account:
        """Return the user's account; one that never had credits is all zeros."""
        return Account(**self._database.one("select * from backend.get_account(%s)", (user_id,)))

    def entries(self, user_id: UUID, *, before_id: int | None, limit: int) -> list[Entry]:
        """Return up to `limit` entries older than `before_id`, newest first."""
        rows = self._database.all(
            """
            select id, type, available_delta, reserved_delta, owed_delta, available_after,
                   reservation_id, description, created_at
              from backend.list_ledger(%s, %s, %s)
            """,
            (user_id, before_id, limit),
        )
        return [Entry(**{**row, "type": EntryType(row["type"])}) for row in rows]
