"""Change: PATCH /account, GET /alerts, GET and DELETE /uploads, DELETE /generations/{id}, POST /admin/adjustments."""

from __future__ import annotations

from http import HTTPStatus

from aws_lambda_powertools.event_handler import Response

from holdfast import config, http
from holdfast.alerts import AlertStore
from holdfast.assets import AssetStore
from holdfast.auth import TokenVerifier
from holdfast.database import Database
from holdfast.profiles import ProfileStore
from holdfast.rate_limit import rate_limiter
from holdfast.removals import RemovalStore
from holdfast.storage import StorageSigner
from holdfast.usecases.manage_account import AccountChange, AccountManager, AdjustmentRequest
from holdfast.views import AdjustmentView, AlertsView, AssetsView

settings = config.load(config.ManageAccountSettings)
verifier = TokenVerifier.from_settings(settings)
limiter = rate_limiter(settings)
database = Database(settings.database_url)
manager = AccountManager(
    ProfileStore(database),
    AlertStore(database),
    AssetStore(database),
    RemovalStore(database),
    StorageSigner(settings.supabase_url, settings.supabase_secret_key.get_secret_value()),
    signed_url_seconds=settings.signed_url_seconds,
)
app = http.create_app()


@app.patch("/account", status_code=HTTPStatus.NO_CONTENT, operation_id="changeAccount")
def change_account(request: AccountChange) -> Response[None]:
    """Set below how many credits the caller is alerted."""
    user = http.current_user(app)
    limiter.check(user.user_id)
    manager.change(user.user_id, request)
    return Response(HTTPStatus.NO_CONTENT)


@app.get("/alerts", operation_id="listAlerts")
def list_alerts() -> AlertsView:
    """Return the caller's newest alerts."""
    return manager.alerts(http.current_user(app).user_id)


@app.get("/uploads", operation_id="listUploads")
def list_uploads() -> AssetsView:
    """Return the caller's newest pictures."""
    return manager.assets(http.current_user(app).user_id)


@app.delete("/uploads/<asset_id>", status_code=HTTPStatus.NO_CONTENT, operation_id="deleteUpload")
def delete_upload(asset_id: str) -> Response[None]:
    """Remove one of the caller's pictures."""
    user = http.current_user(app)
    manager.remove_asset(user.user_id, http.id_or_not_found(asset_id))
    return Response(HTTPStatus.NO_CONTENT)


@app.delete(
    "/generations/<generation_id>",
    status_code=HTTPStatus.NO_CONTENT,
    operation_id="deleteGeneration",
)
def delete_generation(generation_id: str) -> Response[None]:
    """Remove a finished generation and its files; what it cost stays in the ledger."""
    user = http.current_user(app)
    manager.remove_generation(user.user_id, http.id_or_not_found(generation_id))
    return Response(HTTPStatus.NO_CONTENT)


@app.post("/admin/adjustments", operation_id="adjustCredits")
def adjust_credits(
    request: AdjustmentRequest, idempotency_key: http.IdempotencyKey
) -> AdjustmentView:
    """Give a user credits or take some, with a reason; for admins."""
    user = http.current_user(app)
    limiter.check(user.user_id)
    return manager.adjust(user.user_id, idempotency_key, request)


handler = http.handler(app, settings, verifier=verifier)
