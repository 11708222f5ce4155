"""Who a user is to us: the account that is opened once, the role, the threshold, credits adjusted by hand."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from holdfast.database import Database


class Welcome(StrEnum):
    """What became of a user's welcome gift."""

    WAITING = "waiting"
    PAID = "paid"
    REFUSED = "refused"
    UNKNOWN_USER = "unknown_user"


class Adjusted(StrEnum):
    """What an adjustment did, or why it did nothing."""

    ADJUSTED = "adjusted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    UNKNOWN_USER = "unknown_user"
    FORBIDDEN = "forbidden"


@dataclass(frozen=True)
class Profile:
    """A user's account apart from its credits; `low_balance_at` is in credits."""

    role: str
    welcome: Welcome
    low_balance_at: Decimal


class ProfileStore:
    """Open and change accounts; raises `UnavailableError` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, user_id: UUID) -> Profile:
        """Return the user's profile, opening the account first if that is still to be done."""
        row = self._profile(user_id)
        if (
            row["welcome"] in (None, Welcome.WAITING)
            and self.ensure(user_id) is not Welcome.WAITING
        ):
            row = self._profile(user_id)
        return Profile(
            row["role"] or "user", Welcome(row["welcome"] or "waiting"), row["low_balance_at"]
        )

    def _profile(self, user_id: UUID) -> dict[str, Any]:
        return self._database.one("select * from backend.get_profile(%s)", (user_id,))

    def ensure(self, user_id: UUID) -> Welcome:
        """Open the account if the sign-up did not, and pay the gift if it is due."""
        row = self._database.one("select backend.ensure_account(%s) as outcome", (user_id,))
        return Welcome(row["outcome"])

    def set_low_balance(self, user_id: UUID, threshold: Decimal) -> None:
        """Set below how many credits an alert is raised; 0 raises none."""
        self._database.one("select backend.set_low_balance(%s, %s)", (user_id, threshold))

    def adjust(
        self, admin_id: UUID, key: str, user_id: UUID, amount: Decimal, reason: str
    ) -> Adjusted:
        """Give (above zero) or take (below) credits, once a key, if `admin_id` is an admin."""
        row = self._database.one(
            "select backend.adjust_credits_as_admin(%s, %s, %s, %s, %s) as outcome",
            (admin_id, key, user_id, amount, reason),
        )
        return Adjusted(row["outcome"])
