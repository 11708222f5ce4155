"""What users change about their own things, and admins about others' credits."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from holdfast.alerts import AlertStore
from holdfast.assets import AssetStore
from holdfast.errors import (
    FieldError,
    ForbiddenError,
    IdempotencyConflictError,
    InsufficientCreditsError,
    InvalidRequestError,
)
from holdfast.observability import count, logger
from holdfast.profiles import Adjusted, ProfileStore
from holdfast.removals import Removal, RemovalStore
from holdfast.storage import OUTPUTS, UPLOADS, StorageSigner
from holdfast.usecases.remove_files import remove_files
from holdfast.views import AdjustmentView, AlertsView, AlertView, AssetsView, AssetView
from holdfast.vocabulary import credits as to_credits

ALERTS_SHOWN = 50
ASSETS_SHOWN = 100
ADJUSTMENT_MAX = Decimal(100_000)


def _not_zero(amount: Decimal) -> Decimal:
    if amount == 0:
        raise ValueError("must not be zero")
    return amount


def _exact(value: object) -> Decimal:
    """Take what `to_credits` takes, and `5.0`: to JSON that is the same number as 5."""
    if isinstance(value, float) and value.is_integer():
        return to_credits(int(value))
    return to_credits(value)


def _described(bounds: dict[str, int], *, text: str) -> WithJsonSchema:
    """Say in the document what `_exact` takes: a whole number, or text."""
    return WithJsonSchema(
        {"anyOf": [{"type": "integer", **bounds}, {"type": "string", "pattern": text}]}
    )


class AccountChange(BaseModel):
    """What a user may set about their account."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low_balance_credits: Annotated[
        Decimal,
        BeforeValidator(_exact),
        Field(ge=0, le=ADJUSTMENT_MAX, description="Alert below this; 0 for never."),
        _described(
            {"minimum": 0, "maximum": int(ADJUSTMENT_MAX)}, text=r"^[0-9]{1,5}(\.[0-9]{1,3})?$"
        ),
    ]


class AdjustmentRequest(BaseModel):
    """Credits to give (above zero) or to take (below), and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: UUID
    amount: Annotated[
        Decimal,
        BeforeValidator(_exact),
        Field(ge=-ADJUSTMENT_MAX, le=ADJUSTMENT_MAX),
        AfterValidator(_not_zero),
        _described(
            {"minimum": -int(ADJUSTMENT_MAX), "maximum": int(ADJUSTMENT_MAX)},
            text=r"^-?[0-9]{1,5}(\.[0-9]{1,3})?$",
        ),
    ]
    reason: Annotated[str, Field(min_length=3, max_length=500, pattern=r"\S")]


class AccountManager:
    """Change accounts; raises `UnavailableError` when the database or storage is away."""

    def __init__(
        self,
        profiles: ProfileStore,
        alerts: AlertStore,
        assets: AssetStore,
        removals: RemovalStore,
        storage: StorageSigner,
        *,
        signed_url_seconds: int,
    ) -> None:
        self._profiles = profiles
        self._alerts = alerts
        self._assets = assets
        self._removals = removals
        self._storage = storage
        self._signed_url_seconds = signed_url_seconds

    def change(self, user_id: UUID, change: AccountChange) -> None:
        """Set the user's low balance threshold."""
        self._profiles.set_low_balance(user_id, change.low_balance_credits)

    def alerts(self, user_id: UUID) -> AlertsView:
        """Return the user's newest alerts."""
        return AlertsView(
            alerts=[
                AlertView.model_validate(alert, from_attributes=True)
                for alert in self._alerts.newest(user_id, limit=ALERTS_SHOWN)
            ]
        )

    def assets(self, user_id: UUID) -> AssetsView:
        """Return the user's newest pictures with signed URLs, null where nothing was uploaded."""
        found = self._assets.newest(user_id, limit=ASSETS_SHOWN)
        urls = self._storage.sign(
            [asset.path for asset in found], self._signed_url_seconds, bucket=UPLOADS
        )
        return AssetsView(
            uploads=[
                AssetView(
                    asset_id=asset.id,
                    content_type=asset.content_type,
                    bytes=asset.bytes,
                    created_at=asset.created_at,
                    url=urls[asset.path],
                )
                for asset in found
            ]
        )

    def remove_asset(self, user_id: UUID, asset_id: UUID) -> None:
        """Remove one of the user's pictures; raises `NotFoundError`."""
        self._remove(self._removals.asset(user_id, asset_id, bucket=UPLOADS))

    def remove_generation(self, user_id: UUID, generation_id: UUID) -> None:
        """
        Take a finished generation out of the user's library, files and all.

        Raises `NotFoundError` and `NotFinishedError`. What it cost stays in the ledger.
        """
        self._remove(self._removals.generation(user_id, generation_id, bucket=OUTPUTS))

    def adjust(self, admin_id: UUID, key: str, request: AdjustmentRequest) -> AdjustmentView:
        """
        Give or take credits by hand, once a key.

        Raises `ForbiddenError` for anybody who is no admin, `InvalidRequestError` for an unknown user,
        `InsufficientCreditsError` when more is to be taken than is available, `IdempotencyConflictError`.
        """
        outcome = self._profiles.adjust(
            admin_id, key, request.user_id, request.amount, request.reason
        )
        logger().info(
            "adjustment", admin_id=str(admin_id), user_id=str(request.user_id), outcome=outcome
        )
        count(f"Adjustment.{outcome}")
        if outcome is Adjusted.FORBIDDEN:
            raise ForbiddenError("Only an admin may do this.")
        if outcome is Adjusted.UNKNOWN_USER:
            raise InvalidRequestError(
                "There is no such user.",
                fields=[FieldError("user_id", "unknown", "Give the id of a user who signed up.")],
            )
        if outcome is Adjusted.INSUFFICIENT_CREDITS:
            raise InsufficientCreditsError("The user has less available than that.")
        if outcome is Adjusted.CONFLICT:
            raise IdempotencyConflictError("This key made another adjustment.")
        return AdjustmentView(outcome=outcome, user_id=request.user_id, amount=request.amount)

    def _remove(self, removal: Removal) -> None:
        # marked already: should storage be away, the cleaning removes the files later
        remove_files(self._storage, removal)
        self._removals.finish(removal)
