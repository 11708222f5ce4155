"""Alerts: what a user should notice, and the outbox on its way to the owner's event bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from holdfast.database import Database


@dataclass(frozen=True)
class Alert:
    """One alert. `available` is the balance that raised it, in credits."""

    id: int
    user_id: UUID
    type: str
    threshold: Decimal
    available: Decimal
    created_at: datetime


class AlertStore:
    """Read and hand out alerts; raises `UnavailableError` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, user_id: UUID, *, limit: int) -> list[Alert]:
        """Return the user's newest alerts."""
        return self._alerts("select * from backend.list_alerts(%s, %s)", (user_id, limit))

    def claim(self, *, limit: int, lease_seconds: int) -> list[Alert]:
        """Lease alerts that the event bus has not taken, oldest first."""
        return self._alerts("select * from backend.claim_alerts(%s, %s)", (limit, lease_seconds))

    def finish(self, alerts: Sequence[int]) -> None:
        """Note that the event bus has taken these."""
        self._database.one("select backend.finish_alerts(%s)", (list(alerts),))

    def _alerts(self, query: str, params: tuple[object, ...]) -> list[Alert]:
        return [Alert(**row) for row in self._database.all(query, params)]
