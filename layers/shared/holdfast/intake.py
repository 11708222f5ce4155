"""
Whether new generations are taken.

Without credits of the operator's at the provider every generation would be refused: then all users are told to come
back later, before anything is reserved, instead of one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from holdfast.database import Database


@dataclass(frozen=True)
class Closure:
    """Why nothing is taken: the provider refused this request for lack of the operator's credits."""

    model: str | None
    request: str | None


class Intake:
    """Close and open the intake; raises `UnavailableError` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self, generation_id: UUID) -> int:
        """Take nothing new for a while, twice as long each time in a row; return the seconds."""
        row = self._database.one("select * from backend.close_intake(%s)", (generation_id,))
        until: datetime = row["closed_until"]
        return max(1, int((until - datetime.now(UTC)).total_seconds()))

    def closure(self) -> Closure | None:
        """Return what closed the intake, None while it is open."""
        row = self._database.one("select * from backend.get_intake()")
        return Closure(row["model"], row["request"]) if row["is_closed"] else None

    def open(self) -> bool:
        """Take new generations again; say whether it was closed."""
        row = self._database.one("select backend.open_intake() as was_closed")
        return bool(row["was_closed"])
