"""Generations in the database: one method for each SQL function of their life."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from holdfast.database import Database
from holdfast.vocabulary import GenerationStatus, MediaKind, ProviderStatus

_LONGEST_TEXT = 2000


class CreateOutcome(StrEnum):
    """How the creation of a generation ended."""

    CREATED = "created"
    EXISTING = "existing"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    PRICE_CHANGED = "price_changed"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    TOO_MANY_ACTIVE = "too_many_active"
    RATE_LIMITED = "rate_limited"
    INTAKE_CLOSED = "intake_closed"
    DAILY_LIMIT = "daily_limit"


class SubmitOutcome(StrEnum):
    """What noting the provider's id did."""

    SUBMITTED = "submitted"
    ALREADY_SUBMITTED = "already_submitted"
    PROVIDER_ID_CONFLICT = "provider_id_conflict"
    NOT_FOUND = "not_found"


class ResultOutcome(StrEnum):
    """What a message of the provider did."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    WITHHELD = "withheld"
    PARKED = "parked"
    NOTED = "noted"


class CompleteOutcome(StrEnum):
    """How the completion of a generation ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ALREADY_FINAL = "already_final"
    NOT_READY = "not_ready"
    NOT_FOUND = "not_found"


@dataclass(frozen=True)
class NewGeneration:
    """A request that is ready to be reserved and queued."""

    user_id: UUID
    idempotency_key: str
    request_hash: str
    kind: MediaKind
    model: str
    prompt: str
    fields: dict[str, Any]
    provider_request: str
    """The canonical body, byte for byte what the provider is sent."""
    price: dict[str, Any]
    cost: Decimal
    output_count: int
    max_cost: Decimal | None = None
    """The most the user agreed to; None for any price."""


@dataclass(frozen=True)
class UserLimits:
    """What one user may do: generations at once, starts in an hour, credits in a day (0: no limit)."""

    active: int
    per_hour: int
    daily_credits: Decimal


@dataclass(frozen=True)
class Created:
    """The answer to a creation. Only `outcome` and the credits are always there."""

    outcome: CreateOutcome
    generation_id: UUID | None
    status: GenerationStatus | None
    cost_credits: Decimal | None
    available_credits: Decimal
    retry_after_seconds: int | None


@dataclass(frozen=True)
class ProviderResult:
    """What the provider says of a generation, by callback or when asked."""

    status: ProviderStatus
    output_urls: tuple[str, ...] = ()
    error_code: str | None = None
    error_message: str | None = None


@dataclass(frozen=True)
class Recorded:
    """What a message of the provider did, and where its generation stands."""

    outcome: ResultOutcome
    generation_id: UUID | None
    status: GenerationStatus | None

    @property
    def is_to_settle(self) -> bool:
        """Say whether a settlement should be queued: also for a repeated message, it may be lost."""
        return self.status is GenerationStatus.STORING


@dataclass(frozen=True)
class Submitted:
    """Where a generation stands once the provider's id is noted."""

    outcome: SubmitOutcome
    status: GenerationStatus | None
    is_cancel_wanted: bool
    """The provider is to be asked to cancel it at once."""


@dataclass(frozen=True)
class Settlement:
    """What the settle worker needs to know."""

    generation_id: UUID
    user_id: UUID
    status: GenerationStatus
    kind: MediaKind
    output_count: int
    output_urls: tuple[str, ...]


@dataclass(frozen=True)
class StoredOutput:
    """One stored file; `path` lies in the bucket `outputs`."""

    n: int
    path: str
    content_type: str
    bytes: int


@dataclass(frozen=True)
class Generation:
    """A generation as its user may see it."""

    id: UUID
    status: GenerationStatus
    kind: MediaKind
    model: str
    prompt: str
    fields: dict[str, Any]
    cost_credits: Decimal
    charged_credits: Decimal | None
    output_count: int
    outputs: tuple[StoredOutput, ...]
    error_code: str | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


_VISIBLE = """
id, status, kind, model, prompt, fields, cost_credits, charged_credits, output_count, outputs,
error_code, error_message, created_at, updated_at, finished_at
"""


@dataclass(frozen=True)
class GenerationEvent:
    """One change of a generation's state."""

    from_status: GenerationStatus | None
    to_status: GenerationStatus
    reason: str | None
    created_at: datetime


class GenerationStore:
    """Move generations through their life; raises `UnavailableError` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, new: NewGeneration, limits: UserLimits) -> Created:
        """Claim the client's key, check price and limits, reserve and queue, in one transaction."""
        row = self._database.one(
            """
            select * from backend.create_generation(
              %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            (
                new.user_id,
                new.idempotency_key,
                new.request_hash,
                new.kind,
                new.model,
                new.prompt,
                Jsonb(new.fields),
                new.provider_request,
                Jsonb(new.price),
                new.cost,
                new.output_count,
                limits.active,
                limits.per_hour,
                limits.daily_credits,
                new.max_cost,
            ),
        )
        status = row["status"]
        return Created(
            **{
                **row,
                "outcome": CreateOutcome(row["outcome"]),
                "status": GenerationStatus(status) if status else None,
            }
        )

    def made_before(self, user_id: UUID, idempotency_key: str, request_hash: str) -> Created | None:
        """Return what `create` would answer for a key that is taken, None for one that is not."""
        row = self._database.one(
            "select * from backend.find_generation(%s, %s)", (user_id, idempotency_key)
        )
        if row["generation_id"] is None:
            return None
        is_same = row["request_hash"] == request_hash
        return Created(
            outcome=CreateOutcome.EXISTING if is_same else CreateOutcome.IDEMPOTENCY_CONFLICT,
            generation_id=row["generation_id"],
            status=GenerationStatus(row["status"]),
            cost_credits=row["cost_credits"],
            available_credits=row["available_credits"],
            retry_after_seconds=None,
        )

    def mark_submitted(self, generation_id: UUID, provider_generation_id: str) -> Submitted:
        """Note the provider's id and apply the callbacks that were quicker."""
        row = self._database.one(
            "select * from backend.mark_submitted(%s, %s)", (generation_id, provider_generation_id)
        )
        status = row["status"]
        return Submitted(
            SubmitOutcome(row["outcome"]),
            GenerationStatus(status) if status else None,
            bool(row["is_cancel_wanted"]),
        )

    def mark_refused(self, generation_id: UUID, code: str, message: str | None) -> bool:
        """Fail and refund what the provider refused for good; say whether this call did it."""
        row = self._database.one(
            "select backend.mark_refused(%s, %s, %s) as outcome",
            (generation_id, _storable(code), _storable(message)),
        )
        return bool(row["outcome"] == "refunded")

    def record_callback(
        self,
        delivery_id: str,
        event: str,
        provider_generation_id: str | None,
        result: ProviderResult | None,
    ) -> Recorded:
        """Keep a verified callback and apply its result; without one it is only noted."""
        row = self._database.one(
            "select * from backend.record_callback(%s, %s, %s, %s)",
            (
                _storable(delivery_id),
                _storable(event),
                _storable(provider_generation_id),
                Jsonb(_payload(result)),
            ),
        )
        return _recorded(row["generation_id"], row)

    def record_provider_state(self, generation_id: UUID, result: ProviderResult) -> Recorded:
        """Apply what the provider answered when it was asked."""
        row = self._database.one(
            "select * from backend.record_provider_state(%s, %s, %s, %s, %s)",
            (
                generation_id,
                result.status,
                Jsonb([_storable(url) for url in result.output_urls]),
                _storable(result.error_code),
                _storable(result.error_message),
            ),
        )
        return _recorded(generation_id, row)

    def settlement(self, generation_id: UUID) -> Settlement | None:
        """Return what is to be stored, or None when there is no such generation."""
        row = self._database.one("select * from backend.get_settlement(%s)", (generation_id,))
        if row["status"] is None:
            return None
        return Settlement(
            generation_id=generation_id,
            user_id=row["user_id"],
            status=GenerationStatus(row["status"]),
            kind=MediaKind(row["kind"]),
            output_count=row["output_count"],
            output_urls=tuple(row["output_urls"] or ()),
        )

    def complete(
        self, generation_id: UUID, outputs: list[StoredOutput], error_code: str | None = None
    ) -> CompleteOutcome:
        """Settle: n of m outputs charge n/m of the reservation, none refunds it."""
        row = self._database.one(
            "select backend.complete_generation(%s, %s, %s) as outcome",
            (generation_id, Jsonb([vars(output) for output in outputs]), error_code),
        )
        return CompleteOutcome(row["outcome"])

    def get(self, user_id: UUID, generation_id: UUID) -> Generation | None:
        """Return the user's own generation, if it is theirs."""
        rows = self._database.all(
            f"select {_VISIBLE} from backend.get_generation(%s, %s)",  # noqa: S608 - a constant
            (user_id, generation_id),
        )
        return _generation(rows[0]) if rows else None

    def page(
        self,
        user_id: UUID,
        *,
        status: GenerationStatus | None,
        kind: MediaKind | None,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[Generation]:
        """Return up to `limit` generations, newest first, older than the cursor `before`."""
        created_at, generation_id = before or (None, None)
        rows = self._database.all(
            f"select {_VISIBLE} from backend.list_generations(%s, %s, %s, %s, %s, %s)",  # noqa: S608
            (user_id, status, kind, created_at, generation_id, limit),
        )
        return [_generation(row) for row in rows]

    def events(self, user_id: UUID, generation_id: UUID) -> list[GenerationEvent]:
        """Return what happened to the user's own generation, oldest first; nothing if it is not theirs."""
        rows = self._database.all(
            """
            select from_status, to_status, reason, created_at
              from backend.list_generation_events(%s, %s)
            """,
            (user_id, generation_id),
        )
        return [
            GenerationEvent(
                GenerationStatus(row["from_status"]) if row["from_status"] else None,
                GenerationStatus(row["to_status"]),
                row["reason"],
                row["created_at"],
            )
            for row in rows
        ]


def _payload(result: ProviderResult | None) -> dict[str, Any]:
    if result is None:
        return {}
    return {
        "status": result.status,
        "output_urls": [_storable(url) for url in result.output_urls],
        "error_code": _storable(result.error_code),
        "error_message": _storable(result.error_message),
    }


def _storable(text: str | None) -> str | None:
    """Make the provider's text fit for PostgreSQL, so that it cannot turn a true message into an error."""
    if text is None:
        return None
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:_LONGEST_TEXT]


def _recorded(generation_id: UUID | None, row: dict[str, Any]) -> Recorded:
    status = row["status"]
    return Recorded(
        ResultOutcome(row["outcome"]), generation_id, GenerationStatus(status) if status else None
    )


def _generation(row: dict[str, Any]) -> Generation:
    return Generation(
        **{
            **row,
            "status": GenerationStatus(row["status"]),
            "kind": MediaKind(row["kind"]),
            "outputs": tuple(StoredOutput(**output) for output in row["outputs"]),
        }
    )
