"""
What ends a generation that does not end by itself, in the database: replays, cancels, leases and the sweep's look.

One method for each SQL function of `0019_recovery_functions.sql`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from holdfast.database import Database
from holdfast.vocabulary import GenerationStatus, MediaKind

_LONGEST_ERROR = 300


class CancelRequestOutcome(StrEnum):
    """What a user's wish to cancel did."""

    CANCELED = "canceled"
    CANCEL_REQUESTED = "cancel_requested"
    NOT_CANCELABLE = "not_cancelable"
    NOT_FOUND = "not_found"


class CancelReason(StrEnum):
    """Who wants a generation canceled."""

    USER = "user"
    DEADLINE = "deadline"
    OPERATOR = "operator"


class LeaseOutcome(StrEnum):
    """Whether a settle worker got its generation."""

    LEASED = "leased"
    BUSY = "busy"
    POISONED = "poisoned"
    NOT_READY = "not_ready"
    ALREADY_FINAL = "already_final"
    NOT_FOUND = "not_found"


@dataclass(frozen=True)
class CancelRequest:
    """Where a generation stands after its user wanted it canceled."""

    outcome: CancelRequestOutcome
    status: GenerationStatus | None
    provider_generation_id: str | None


@dataclass(frozen=True)
class StuckGeneration:
    """A generation that has not moved for a while, leased to one sweep."""

    generation_id: UUID
    status: GenerationStatus
    kind: MediaKind
    model: str
    request: str
    provider_generation_id: str | None
    attempts: int
    age_seconds: float
    """Since it was first ready to be sent."""
    running_seconds: float
    """Since the provider's id is known."""
    cancel_reason: CancelReason | None


class RecoveryStore:
    """Move what is stuck; raises `UnavailableError` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin_dispatch(self, generation_id: UUID) -> bool | None:
        """
        Note that the provider may have it from now on: a cancel has to ask.

        Return whether the provider may have had it before, None when it is not to be sent any more.
        """
        row = self._database.one("select * from backend.begin_dispatch(%s)", (generation_id,))
        return bool(row["is_replay"]) if row["outcome"] == "send" else None

    def mark_unsent(self, generation_id: UUID, seconds: int, error: str) -> bool:
        """
        Note that the provider took nothing and is asked again in so many seconds.

        Return True when the generation was to be canceled meanwhile, and now is.
        """
        row = self._database.one(
            "select backend.mark_unsent(%s, %s, %s) as outcome",
            (generation_id, seconds, error[:_LONGEST_ERROR]),
        )
        return bool(row["outcome"] == "canceled")

    def request_cancel(self, user_id: UUID, generation_id: UUID) -> CancelRequest:
        """Note the user's wish; what was never sent is canceled by it."""
        row = self._database.one(
            "select * from backend.request_cancel(%s, %s)", (user_id, generation_id)
        )
        return CancelRequest(
            CancelRequestOutcome(row["outcome"]),
            GenerationStatus(row["status"]) if row["status"] else None,
            row["provider_generation_id"],
        )

    def request_stop(self, generation_id: UUID, reason: CancelReason) -> None:
        """Note that the provider is to be asked to stop. A cancel of the user's stays the user's."""
        self._database.one("select backend.request_stop(%s, %s)", (generation_id, reason))

    def begin_settlement(self, generation_id: UUID, owner: str, lease_seconds: int) -> LeaseOutcome:
        """Lease a generation to the settle worker of the message `owner`."""
        row = self._database.one(
            "select backend.begin_settlement(%s, %s, %s) as outcome",
            (generation_id, owner, lease_seconds),
        )
        return LeaseOutcome(row["outcome"])

    def end_settlement(
        self, generation_id: UUID, owner: str, error: str, *, is_failure: bool
    ) -> None:
        """Give back what could not be settled. A failure is what will not mend itself."""
        self._database.one(
            "select backend.end_settlement(%s, %s, %s, %s)",
            (generation_id, owner, _error(error), is_failure),
        )

    def claim_stuck(
        self, *, limit: int, idle_seconds: int, lease_seconds: int
    ) -> list[StuckGeneration]:
        """Lease unfinished generations that have not moved for `idle_seconds`, or are due for a look."""
        rows = self._database.all(
            "select * from backend.claim_stuck(%s, %s, %s)", (limit, idle_seconds, lease_seconds)
        )
        return [_stuck(row) for row in rows]

    def postpone(
        self,
        generation_id: UUID,
        seconds: int,
        error: str | None = None,
        *,
        is_failure: bool = False,
    ) -> None:
        """Leave a generation alone for so many seconds. A failure is what will not mend itself."""
        self._database.one(
            "select backend.postpone(%s, %s, %s, %s)",
            (generation_id, seconds, error and _error(error), is_failure),
        )

    def abandon(self, generation_id: UUID, code: str) -> bool:
        """Refund what the provider was asked about in vain; say whether this call did it."""
        row = self._database.one("select backend.abandon(%s, %s) as outcome", (generation_id, code))
        return bool(row["outcome"] == "refunded")

    def count_poisoned(self) -> int:
        """Return how many generations failed so often that they are left to the operator."""
        row = self._database.one("select backend.count_poisoned() as poisoned")
        return int(row["poisoned"])


def _error(text: str) -> str:
    return text.replace("\0", "")[:_LONGEST_ERROR]


def _stuck(row: dict[str, Any]) -> StuckGeneration:
    reason = row["cancel_reason"]
    return StuckGeneration(
        **{
            **row,
            "status": GenerationStatus(row["status"]),
            "kind": MediaKind(row["kind"]),
            "age_seconds": float(row["age_seconds"]),
            "running_seconds": float(row["running_seconds"]),
            "cancel_reason": CancelReason(reason) if reason else None,
        }
    )
