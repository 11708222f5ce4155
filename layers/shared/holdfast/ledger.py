"""
The ledger's client: one method for each function of the SQL schema `ledger`, one enum for its outcomes.

The rules live in SQL (sql/migrations, docs/ledger.md); nothing is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from holdfast.database import Database
from holdfast.vocabulary import GrantSource

DEFAULT_PRIORITY = 100


class GrantOutcome(StrEnum):
    """How a grant ended."""

    GRANTED = "granted"
    DUPLICATE = "duplicate"


class ReserveOutcome(StrEnum):
    """How a reserve ended."""

    RESERVED = "reserved"
    DUPLICATE = "duplicate"
    ALREADY_SETTLED = "already_settled"
    INSUFFICIENT_CREDITS = "insufficient_credits"


class SettleOutcome(StrEnum):
    """How a settlement ended."""

    SETTLED = "settled"
    ALREADY_SETTLED = "already_settled"
    NOT_FOUND = "not_found"


class ReverseOutcome(StrEnum):
    """How a reversal ended."""

    CLAWED_BACK = "clawed_back"
    RESTORED = "restored"
    UNCHANGED = "unchanged"
    DUPLICATE = "duplicate"
    NOT_FOUND = "not_found"


@dataclass(frozen=True)
class Violation:
    """One violated invariant, as `ledger.audit` reports it."""

    user_id: UUID
    invariant: str
    subject: str | None
    expected: Decimal | None
    found: Decimal | None


@dataclass(frozen=True)
class Seal:
    """What a sealing did, and the newest seal: its id and hash, noted elsewhere, prove the whole chain."""

    sealed: int
    seal_id: int | None
    seal_hash: str | None


class LedgerClient:
    """
    Move credits.

    Every method is one transaction, is safe to call again, and raises a `LedgerMisuseError` for a
    call no correct caller makes, `UnavailableError` when the database is away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def grant(
        self,
        user_id: UUID,
        source: GrantSource,
        source_key: str,
        amount: Decimal,
        *,
        expires_at: datetime | None = None,
        priority: int = DEFAULT_PRIORITY,
        description: str | None = None,
    ) -> GrantOutcome:
        """Grant credits under a business key, once; without `expires_at` they do not expire."""
        row = self._database.one(
            "select ledger.grant(%s, %s, %s, %s, %s, %s, %s) as outcome",
            (user_id, source, source_key, amount, expires_at, priority, description),
        )
        return GrantOutcome(row["outcome"])

    def reserve(self, user_id: UUID, reservation_id: UUID, amount: Decimal) -> ReserveOutcome:
        """Set credits aside for the job `reservation_id`."""
        row = self._database.one(
            "select ledger.reserve(%s, %s, %s) as outcome", (user_id, reservation_id, amount)
        )
        return ReserveOutcome(row["outcome"])

    def settle(self, reservation_id: UUID, charge: Decimal) -> SettleOutcome:
        """End a reservation: charge so much, refund the rest. Zero is a full refund."""
        row = self._database.one(
            "select ledger.settle(%s, %s) as outcome", (reservation_id, charge)
        )
        return SettleOutcome(row["outcome"])

    def reverse(
        self, source_key: str, reversal_key: str, reversed_total: Decimal
    ) -> ReverseOutcome:
        """Set how much of a grant is reversed in total; the difference is moved."""
        row = self._database.one(
            "select ledger.reverse(%s, %s, %s) as outcome",
            (source_key, reversal_key, reversed_total),
        )
        return ReverseOutcome(row["outcome"])

    def expire_due(self, limit: int = 1000) -> int:
        """Expire due grants of up to `limit` users; return how many grants expired."""
        row = self._database.one("select ledger.expire_due(%s) as count", (limit,))
        return int(row["count"])

    def seal(self) -> Seal:
        """Seal the entries that were complete at the call before."""
        return Seal(**self._database.one("select * from ledger.seal()"))

    def audit(self, user_id: UUID | None = None) -> list[Violation]:
        """Return every violated invariant, of one user or of all; an empty list is the proof."""
        rows = self._database.all("select * from ledger.audit(%s)", (user_id,))
        return [Violation(**row) for row in rows]
