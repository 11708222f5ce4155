"""Payment intents and charges as the API shows them; both are made by paying."""

from __future__ import annotations

from local.standins.stripe_endpoint import listing, retrieving
from local.standins.stripe_params import text

ENDPOINTS = [
    listing("payment_intent", "/v1/payment_intents", {"customer": text()}),
    retrieving("payment_intent", "/v1/payment_intents"),
    listing("charge", "/v1/charges", {"customer": text(), "payment_intent": text()}),
    retrieving("charge", "/v1/charges"),
]
