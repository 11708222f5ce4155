"""What is still to be asked of Stripe: parked events, money gone back of unknown payments, states grown old."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from holdfast.database import Database
from holdfast.stripe_events import ObjectKind, StripeEvent


@dataclass(frozen=True)
class ParkedEvent:
    """An event that waits for what it is about; whoever claimed it has it alone for a while."""

    event_id: str
    type: str
    object_id: str
    created_at: datetime
    parked_at: datetime

    @property
    def event(self) -> StripeEvent:
        """The event to apply again; its object has to be read anew."""
        return StripeEvent(
            id=self.event_id,
            type=self.type,
            created=int(self.created_at.timestamp()),
            object_id=self.object_id,
            snapshot=None,
        )


class ReconciliationStore:
    """Claim what is to be compared with Stripe; raises `UnavailableError` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim_parked(self, *, limit: int, lease_seconds: int) -> list[ParkedEvent]:
        """Return parked events to try again, those that waited longest first."""
        rows = self._database.all(
            "select * from backend.claim_parked(%s, %s)", (limit, lease_seconds)
        )
        return [ParkedEvent(**row) for row in rows]

    def give_up(self, event_id: str) -> None:
        """Stop trying a parked event."""
        self._database.one("select backend.give_up_parked(%s) as outcome", (event_id,))

    def count_parked(self, *, older_than_seconds: int) -> int:
        """Return how many events have been parked for so long."""
        row = self._database.one(
            "select backend.parked_older_than(%s) as parked", (older_than_seconds,)
        )
        parked: int = row["parked"]
        return parked

    def unmatched_payments(self, *, limit: int) -> list[str]:
        """Return payments of which money went back although nobody knows what they paid."""
        rows = self._database.all(
            "select distinct payment_intent_id from backend.unmatched_reversals(%s)", (limit,)
        )
        return [row["payment_intent_id"] for row in rows]

    def unfinished(self, *, limit: int, idle_seconds: int) -> list[tuple[ObjectKind, str]]:
        """Return subscriptions and reversals that may still change and were last read so long ago."""
        rows = self._database.all(
            "select * from backend.list_unfinished(%s, %s)", (limit, idle_seconds)
        )
        return [(ObjectKind(row["kind"]), row["id"]) for row in rows]

    def claim(self, name: str, *, every_seconds: int, lease_seconds: int) -> datetime | None:
        """Return since when to compare, for this caller alone; None when it is not due."""
        row = self._database.one(
            "select backend.claim_reconciliation(%s, %s, %s) as since",
            (name, every_seconds, lease_seconds),
        )
        since: datetime | None = row["since"]
        return since

    def advance(self, name: str, until: datetime) -> None:
        """Note that everything before `until` was compared; the claim goes on."""
        self._database.one("select backend.advance_reconciliation(%s, %s)", (name, until))

    def finish(self, name: str, until: datetime) -> None:
        """Note that everything before `until` was compared, and end the claim."""
        self._database.one("select backend.finish_reconciliation(%s, %s)", (name, until))

    def drip_due(self, *, limit: int) -> int:
        """Grant the months of yearly plans that have begun, of so many periods at most; return how many."""
        row = self._database.one("select backend.drip_due(%s) as granted", (limit,))
        granted: int = row["granted"]
        return granted
