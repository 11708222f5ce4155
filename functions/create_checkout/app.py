"""Sell packs and plans: GET /catalog, POST /checkout, GET /checkout/{session_id}, POST /billing-portal."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal, Self

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Path
from pydantic import BaseModel, ConfigDict, Field, model_validator

from holdfast import config, http
from holdfast.auth import TokenVerifier
from holdfast.billing import BillingStore
from holdfast.catalog import catalog
from holdfast.customers import CustomerStore
from holdfast.database import Database
from holdfast.frontend import Frontend
from holdfast.purchases import PurchaseStore
from holdfast.rate_limit import rate_limiter
from holdfast.stripe_client import StripeBilling, connect
from holdfast.stripe_reader import StripeReader
from holdfast.usecases.create_checkout import Checkout
from holdfast.views import CatalogView, CheckoutStatusView, CheckoutView, PortalView

settings = config.load(config.CreateCheckoutSettings)
verifier = TokenVerifier.from_settings(settings)
limiter = rate_limiter(settings)
database = Database(settings.database_url)
stripe = connect(settings.stripe_api_key.get_secret_value(), settings.stripe_api_base)
checkout = Checkout(
    catalog(),
    PurchaseStore(database),
    CustomerStore(database),
    BillingStore(database, catalog()),
    StripeBilling(stripe),
    StripeReader(stripe),
    Frontend(settings.frontend_url),
    per_hour=settings.checkouts_per_hour,
)
app = http.create_app()


class CheckoutRequest(BaseModel):
    """What to buy, a pack or a plan, and which pages of the frontend to come back to."""

    model_config = ConfigDict(extra="forbid")

    pack_id: str | None = None
    plan_id: str | None = None
    interval: Annotated[Literal["month", "year"] | None, Field(description="Of a plan only.")] = (
        None
    )
    success_path: Annotated[str, Field(description="A path; `session_id` is appended.")] = "/"
    cancel_path: str = "/"

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.pack_id is None) == (self.plan_id is None):
            raise ValueError("give a pack_id or a plan_id")
        if (self.plan_id is None) != (self.interval is None):
            raise ValueError("a plan has an interval, a pack has none")
        return self


class PortalRequest(BaseModel):
    """Which page of the frontend to come back to."""

    model_config = ConfigDict(extra="forbid")

    return_path: str = "/"


@app.get("/catalog", operation_id="getCatalog")
def get_catalog() -> CatalogView:
    """Return what can be bought."""
    return checkout.offers()


@app.post("/checkout", status_code=HTTPStatus.CREATED, operation_id="createCheckout")
def create_checkout(request: CheckoutRequest) -> Response[CheckoutView]:
    """Return the page to pay at."""
    user = http.current_user(app)
    limiter.check(user.user_id)
    paths = request.success_path, request.cancel_path
    if request.pack_id is not None:
        view = checkout.buy_pack(user.user_id, request.pack_id, *paths)
    else:
        view = checkout.subscribe(user.user_id, str(request.plan_id), str(request.interval), *paths)
    return Response(HTTPStatus.CREATED, "application/json", view)


@app.get("/checkout/<session_id>", operation_id="getCheckout")
def get_checkout(session_id: Annotated[str, Path(max_length=255)]) -> CheckoutStatusView:
    """Return what became of the caller's own session."""
    user = http.current_user(app)
    return checkout.status(user.user_id, session_id)


@app.post("/billing-portal", status_code=HTTPStatus.CREATED, operation_id="openBillingPortal")
def open_billing_portal(request: PortalRequest) -> Response[PortalView]:
    """Return the page on which the caller manages plan, cards and invoices."""
    user = http.current_user(app)
    limiter.check(user.user_id)
    view = checkout.portal(user.user_id, request.return_path)
    return Response(HTTPStatus.CREATED, "application/json", view)


handler = http.handler(app, settings, verifier=verifier, public=frozenset({"GET /catalog"}))
