"""
What BabySea answers, read leniently: nearly every field may be missing, null or new.

Numbers that are money arrive as `Decimal`, because the client parses JSON without floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from holdfast.vocabulary import MediaKind, ProviderStatus

T = TypeVar("T")


def _empty_for_null(value: Any) -> Any:  # noqa: ANN401 - whatever JSON held
    return [] if value is None else value


LenientList = Annotated[list[T], BeforeValidator(_empty_for_null)]


class _Answer(BaseModel):
    # `model_` is the provider's own prefix, pydantic's guard for it is in the way.
    model_config = ConfigDict(
        frozen=True, extra="ignore", protected_namespaces=(), hide_input_in_errors=True
    )


class GenerationRecord(_Answer):
    """A generation as the provider keeps it. The inputs it repeats are kept as they came."""

    model_config = ConfigDict(extra="allow")

    generation_id: str
    generation_status: ProviderStatus
    model_identifier: str | None = None
    generation_prediction_id: str | None = None
    generation_provider_used: str | None = None
    generation_output_file: LenientList[str] = Field(default_factory=list)
    generation_error: str | None = None
    generation_error_code: str | None = None
    generation_removed: bool | None = None
    generation_prompt: str | None = None
    generation_created_at: str | None = None


class GenerationPage(_Answer):
    """One page of the provider's list. `total` may drift while pages are read."""

    generations: list[GenerationRecord]
    total: int
    limit: int
    offset: int


class CatalogSchema(_Answer):
    """What a model accepts. An empty list means the field does not exist for it."""

    generation_prompt: bool | None = None
    generation_ratio: LenientList[str] = Field(default_factory=list)
    generation_output_format: LenientList[str] = Field(default_factory=list)
    generation_output_number: Annotated[int, Field(ge=0, le=100)] | None = None
    generation_input_file: bool | None = None
    generation_duration: LenientList[Annotated[int, Field(gt=0, le=3600)]] = Field(
        default_factory=list
    )
    generation_resolution: LenientList[str] = Field(default_factory=list)
    generation_generate_audio: bool | None = None


class CatalogModel(_Answer):
    """One model of the catalogue. No pricing means it must not be sold."""

    model_identifier: str
    model_type: MediaKind
    model_pricing: Decimal | dict[str, Decimal] | None = None
    model_supported_provider: LenientList[str] = Field(default_factory=list)
    model_schema: CatalogSchema = Field(default_factory=CatalogSchema, alias="schema")
    specific_schema: LenientList[str] = Field(default_factory=list)


class Estimate(_Answer):
    """A price for a request, not a promise: nothing locks it."""

    model_identifier: str
    model_type: MediaKind | None = None
    assets_count: int | None = None
    cost_per_generation: Decimal
    cost_total_consumed: Decimal
    credit_balance: Decimal | None = None
    credit_balance_can_afford: bool | None = None


class Cancellation(_Answer):
    """What a cancel call reached."""

    generation_id: str
    generation_status: ProviderStatus
    provider_cancel_sent: bool | None = None
    credits_refunded: bool | None = None


class AcceptedData(_Answer):
    """What a generate call answers: accepted, or canceled before."""

    generation_id: str
    generation_initialized: bool | None = None
    generation_status: str | None = None


class ErrorDetail(_Answer):
    """The `error` object of an error envelope, when it has the documented shape."""

    model_config = ConfigDict(strict=True)

    code: str
    type: str
    message: str
    retryable: bool


# ---- what became of a generate call, and of a cancel call -----------------------------------------


@dataclass(frozen=True)
class Accepted:
    """The provider works on it, or did under the same key."""

    provider_generation_id: str


@dataclass(frozen=True)
class CanceledEarlier:
    """The key belongs to a generation that has been canceled; there will be no other."""

    provider_generation_id: str


@dataclass(frozen=True)
class Refused:
    """
    The provider will not do it, now or later.

    `before_lookup` means the answer came from authentication or from the edge, before the
    idempotency key was looked up: it proves nothing about an earlier try with the same key.
    """

    code: str
    message: str
    before_lookup: bool = False


@dataclass(frozen=True)
class Unknown:
    """Nobody knows whether it was accepted. Repeat the same bytes with the same key."""

    reason: str


@dataclass(frozen=True)
class OperatorOutOfCredits:
    """The operator's account at the provider is empty: not the user's fault, and an alarm."""

    code: str


@dataclass(frozen=True)
class Busy:
    """A limit was reached, nothing was accepted. `retry_after` is in seconds, if it was said."""

    code: str
    retry_after: int | None


GenerateOutcome = Accepted | CanceledEarlier | Refused | Unknown | OperatorOutOfCredits | Busy


@dataclass(frozen=True)
class Canceled:
    """It is canceled, now or already before."""

    credits_refunded: bool | None


@dataclass(frozen=True)
class NotCancelable:
    """It has ended in another way. `code` is the provider's error code or the final status."""

    code: str


@dataclass(frozen=True)
class NoSuchGeneration:
    """The provider does not know it, or no longer."""


CancelOutcome = Canceled | NotCancelable | NoSuchGeneration | Unknown
