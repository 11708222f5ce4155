"""Take an event of Stripe: believe only the signature and our own purchase."""

from __future__ import annotations

from holdfast.billing import OtherEvent, parse_event
from holdfast.observability import count, logger
from holdfast.purchases import CheckoutOutcome, PurchaseStore


class PaymentReceiver:
    """Receive Stripe's events. When `receive` returns, the event took effect or was refused for good."""

    def __init__(
        self, purchases: PurchaseStore, secrets: tuple[str, ...], *, livemode: bool
    ) -> None:
        self._purchases = purchases
        self._secrets = secrets
        self._livemode = livemode

    def receive(self, body: bytes, signature: str | None) -> CheckoutOutcome:
        """
        Verify and apply one event.

        Raises `InvalidSignatureError`, `MalformedRequestError`, and `UnavailableError` when the database is away:
        Stripe then delivers again. A payment that fits no purchase is answered as taken (repeating cannot mend it),
        grants nothing and is logged as an error.
        """
        event = parse_event(body, signature, self._secrets, livemode=self._livemode)
        if isinstance(event, OtherEvent):
            return CheckoutOutcome.IGNORED
        outcome = self._purchases.record(event)
        log = logger().error if outcome.is_suspicious else logger().info
        log(
            "payment event",
            event_id=event.id,
            event_type=event.type,
            session_id=event.session_id,
            purchase_id=event.purchase_id,
            outcome=outcome,
        )
        count(f"Payment.{outcome}")
        if outcome.is_suspicious:
            count("PaymentMismatch")
        return outcome
