"""
Every error a caller of the backend can meet, with its HTTP status and its stable code.

    HoldfastError
    |-- MalformedRequestError            400 malformed_request
    |   `-- InvalidSignatureError        400 invalid_signature
    |-- UnauthenticatedError             401 unauthenticated
    |-- InsufficientCreditsError         402 insufficient_credits
    |-- ForbiddenError                   403 forbidden
    |-- NotFoundError                    404 not_found
    |-- AlreadySubscribedError           409 already_subscribed
    |-- IdempotencyConflictError         409 idempotency_conflict
    |-- NotCancelableError               409 not_cancelable
    |-- PriceChangedError                409 price_changed
    |-- NotFinishedError                 409 not_finished
    |-- PayloadTooLargeError             413 payload_too_large
    |-- InvalidRequestError              422 invalid_request, field by field
    |-- ContentRejectedError             422 content_rejected
    |-- RateLimitedError                 429 rate_limited
    |-- TooManyActiveError               429 too_many_active
    |-- DailyLimitError                  429 daily_limit
    |-- ProviderError                    502 provider_error
    |-- UnavailableError                 503 unavailable
    |   |-- ProviderUnavailableError     503 unavailable: the provider is away or busy
    |   `-- ConfigurationError           503 unavailable: our own settings are wrong
    |-- StoragePermanentError            500 internal_error: storage refused for good
    `-- LedgerMisuseError                500 internal_error: a bug on our side, one class a SQLSTATE

`detail` goes to the client, so it never holds a secret or another user's data. `reason` is for logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field of a request. `field` is its path, joined with dots."""

    field: str
    code: str
    message: str


class HoldfastError(Exception):
    """
    The base of all errors that have an HTTP answer.

    `detail` is shown to the client, `reason` is only logged, `retry_after` is in seconds. `members` are further
    members of the answer, for programs.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str | None = None,
        *,
        reason: str | None = None,
        retry_after: int | None = None,
        fields: Sequence[FieldError] = (),
        members: Mapping[str, str] | None = None,
    ) -> None:
        self.detail = detail
        self.reason = reason
        self.retry_after = retry_after
        self.fields = tuple(fields)
        self.members = dict(members or {})
        super().__init__(reason or detail or self.title)


class MalformedRequestError(HoldfastError):
    """The request cannot be read at all."""

    status = 400
    code = "malformed_request"
    title = "Malformed request"


class InvalidSignatureError(MalformedRequestError):
    """A webhook delivery is not signed by its sender."""

    code = "invalid_signature"
    title = "Invalid signature"


class UnauthenticatedError(HoldfastError):
    """There is no valid access token."""

    status = 401
    code = "unauthenticated"
    title = "Authentication required"


class InsufficientCreditsError(HoldfastError):
    """The available credits do not cover the price."""

    status = 402
    code = "insufficient_credits"
    title = "Insufficient credits"


class ForbiddenError(HoldfastError):
    """The user lacks the role that this takes."""

    status = 403
    code = "forbidden"
    title = "Forbidden"


class NotFoundError(HoldfastError):
    """The thing does not exist, or not for this user: both look alike."""

    status = 404
    code = "not_found"
    title = "Not found"


class AlreadySubscribedError(HoldfastError):
    """The user has a plan that has not ended: a second one would be paid beside it."""

    status = 409
    code = "already_subscribed"
    title = "Already subscribed"

    def __init__(self) -> None:
        super().__init__("A plan is changed in the billing portal.")


class IdempotencyConflictError(HoldfastError):
    """The idempotency key was used before with another request."""

    status = 409
    code = "idempotency_conflict"
    title = "Idempotency key reused"


class NotCancelableError(HoldfastError):
    """The generation can no longer be canceled."""

    status = 409
    code = "not_cancelable"
    title = "Not cancelable"


class PriceChangedError(HoldfastError):
    """The price is higher than the one the user was shown and agreed to."""

    status = 409
    code = "price_changed"
    title = "Price changed"


class NotFinishedError(HoldfastError):
    """The generation is still under way."""

    status = 409
    code = "not_finished"
    title = "Not finished"


class PayloadTooLargeError(HoldfastError):
    """The request body is larger than allowed."""

    status = 413
    code = "payload_too_large"
    title = "Payload too large"


class InvalidRequestError(HoldfastError):
    """The request is readable but its fields are not acceptable."""

    status = 422
    code = "invalid_request"
    title = "Invalid request"


class ContentRejectedError(HoldfastError):
    """The provider's content policy refuses the prompt or an input file."""

    status = 422
    code = "content_rejected"
    title = "Content rejected"


class RateLimitedError(HoldfastError):
    """The user asks too often."""

    status = 429
    code = "rate_limited"
    title = "Too many requests"


class TooManyActiveError(HoldfastError):
    """The user has as many running generations as allowed."""

    status = 429
    code = "too_many_active"
    title = "Too many active generations"


class DailyLimitError(HoldfastError):
    """The user would spend more credits in a day than allowed."""

    status = 429
    code = "daily_limit"
    title = "Daily limit reached"


class ProviderError(HoldfastError):
    """
    An outside service refused for good or answered nonsense.

    `provider_code` is that service's own code, for logs and decisions.
    """

    status = 502
    code = "provider_error"
    title = "Provider error"

    def __init__(
        self,
        detail: str | None = None,
        *,
        reason: str | None = None,
        provider_code: str | None = None,
    ) -> None:
        super().__init__(detail, reason=reason)
        self.provider_code = provider_code


class UnavailableError(HoldfastError):
    """Something we depend on is away or busy; the same request may work later."""

    status = 503
    code = "unavailable"
    title = "Temporarily unavailable"


class ProviderUnavailableError(UnavailableError):
    """The provider is away or busy: asked, it did not say."""


class ConfigurationError(UnavailableError):
    """Our own settings are wrong. The reason names the setting, never its value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason=reason)


class StoragePermanentError(HoldfastError):
    """Storage refused, and would again. `storage_code` is its own word for why."""

    title = "Storage error"

    def __init__(self, storage_code: str, *, reason: str) -> None:
        super().__init__(reason=reason)
        self.storage_code = storage_code


class LedgerMisuseError(HoldfastError):
    """A ledger function was called in a way no correct caller does."""

    sqlstate: ClassVar[str] = "HF000"


class InvalidAmountError(LedgerMisuseError):
    """An amount is missing, negative, zero where it must not be, or not in thousandths."""

    sqlstate = "HF001"


class GrantKeyReusedError(LedgerMisuseError):
    """A grant's source key was used before for another user or amount."""

    sqlstate = "HF002"


class ReservationReusedError(LedgerMisuseError):
    """A reservation id was used before for another user or amount."""

    sqlstate = "HF003"


class ChargeExceedsReservationError(LedgerMisuseError):
    """A settlement would charge more than was reserved."""

    sqlstate = "HF004"


class ReversalKeyReusedError(LedgerMisuseError):
    """A reversal key was used before for another grant or total."""

    sqlstate = "HF005"


class TotalOutOfRangeError(LedgerMisuseError):
    """The total to reverse is below zero or above what was granted."""

    sqlstate = "HF006"


LEDGER_ERRORS: dict[str, type[LedgerMisuseError]] = {
    error.sqlstate: error
    for error in (
        InvalidAmountError,
        GrantKeyReusedError,
        ReservationReusedError,
        ChargeExceedsReservationError,
        ReversalKeyReusedError,
        TotalOutOfRangeError,
    )
}
"""The error class of each private SQLSTATE of the ledger."""
