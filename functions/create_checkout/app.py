"""Sell packs: POST /checkout, GET /checkout/{session_id}, GET /catalog."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Path
from pydantic import BaseModel, ConfigDict, Field

from holdfast import config, http
from holdfast.auth import TokenVerifier
from holdfast.billing import StripeBilling
from holdfast.catalog import catalog
from holdfast.database import Database
from holdfast.purchases import PurchaseStore
from holdfast.rate_limit import rate_limiter
from holdfast.usecases.create_checkout import Checkout
from holdfast.views import CatalogView, CheckoutStatusView, CheckoutView

settings = config.load(config.CreateCheckoutSettings)
verifier = TokenVerifier.from_settings(settings)
limiter = rate_limiter(settings)
checkout = Checkout(
    catalog(),
    PurchaseStore(Database(settings.database_url)),
    StripeBilling(settings.stripe_api_key.get_secret_value(), settings.stripe_api_base),
    frontend_url=settings.frontend_url,
    per_hour=settings.checkouts_per_hour,
)
app = http.create_app()


class CheckoutRequest(BaseModel):
    """What to buy, and which pages of the frontend to come back to."""

    model_config = ConfigDict(extra="forbid")

    pack_id: str
    success_path: Annotated[str, Field(description="A path; `session_id` is appended.")] = "/"
    cancel_path: str = "/"


@app.get("/catalog", operation_id="getCatalog")
def get_catalog() -> CatalogView:
    """Return what can be bought."""
    return checkout.offers()


@app.post("/checkout", status_code=HTTPStatus.CREATED, operation_id="createCheckout")
def create_checkout(request: CheckoutRequest) -> Response[CheckoutView]:
    """Return the page to pay at."""
    user = http.current_user(app)
    limiter.check(user.user_id)
    view = checkout.start(user.user_id, request.pack_id, request.success_path, request.cancel_path)
    return Response(HTTPStatus.CREATED, "application/json", view)


@app.get("/checkout/<session_id>", operation_id="getCheckout")
def get_checkout(session_id: Annotated[str, Path(max_length=255)]) -> CheckoutStatusView:
    """Return what became of the caller's own session."""
    user = http.current_user(app)
    return checkout.status(user.user_id, session_id)


handler = http.handler(app, settings, verifier=verifier, public=frozenset({"GET /catalog"}))
