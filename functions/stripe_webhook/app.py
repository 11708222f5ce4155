"""Stripe's events: POST /webhooks/stripe."""

from __future__ import annotations

from holdfast import config, http
from holdfast.billing import BillingStore
from holdfast.catalog import catalog
from holdfast.database import Database
from holdfast.stripe_client import connect
from holdfast.stripe_reader import StripeReader
from holdfast.usecases.apply_stripe import StripeApplier
from holdfast.usecases.receive_stripe_event import StripeReceiver

settings = config.load(config.StripeWebhookSettings)
stripe = connect(settings.stripe_api_key.get_secret_value(), settings.stripe_api_base)
receiver = StripeReceiver(
    StripeApplier(BillingStore(Database(settings.database_url), catalog()), StripeReader(stripe)),
    settings.stripe_webhook_secrets,
    livemode=settings.stripe_livemode,
)
app = http.create_app(validation=False)


@app.post("/webhooks/stripe")
def receive() -> dict[str, str]:
    """Answer 200 only when the event took effect, or never will."""
    event = app.current_event.raw_event
    outcome = receiver.receive(http.raw_body(event), http.header(event, "stripe-signature"))
    return {"outcome": outcome}


handler = http.handler(app, settings)
