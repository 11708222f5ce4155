"""Take an event of Stripe: believe only the signature, Stripe's own answers and our own rows."""

from __future__ import annotations

from holdfast.billing import Outcome
from holdfast.stripe_events import verify_event
from holdfast.usecases.apply_stripe import StripeApplier


class StripeReceiver:
    """Receive Stripe's events. When `receive` returns, the event took effect, waits parked, or was refused for good."""

    def __init__(self, applier: StripeApplier, secrets: tuple[str, ...], *, livemode: bool) -> None:
        self._applier = applier
        self._secrets = secrets
        self._livemode = livemode

    def receive(self, body: bytes, signature: str | None) -> Outcome:
        """
        Verify and apply one event.

        Raises `InvalidSignatureError`, `MalformedRequestError`, and `UnavailableError` or `ProviderError` when the
        database or Stripe is away: Stripe then delivers again. What fits nothing of ours is answered as taken
        (repeating cannot mend it), grants nothing and is logged as an error.
        """
        event = verify_event(body, signature, self._secrets, livemode=self._livemode)
        return self._applier.event(event)
