"""Stripe's events: POST /webhooks/stripe."""

from __future__ import annotations

from holdfast import config, http
from holdfast.database import Database
from holdfast.purchases import PurchaseStore
from holdfast.usecases.record_payment import PaymentReceiver

settings = config.load(config.StripeWebhookSettings)
receiver = PaymentReceiver(
    PurchaseStore(Database(settings.database_url)),
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
