"""Hand alerts to the event bus: from the outbox, so that one whose sending failed is sent later."""

from __future__ import annotations

from holdfast.alerts import AlertStore
from holdfast.errors import UnavailableError
from holdfast.event_bus import BATCH_MAX, EventBus
from holdfast.observability import count, logger

LEASE_SECONDS = 60
BATCHES_MAX = 20


class AlertSender:
    """Send what waits in the outbox."""

    def __init__(self, alerts: AlertStore, bus: EventBus) -> None:
        self._alerts = alerts
        self._bus = bus

    def run(self) -> int:
        """Send what is due and return how many were taken; a bus that is away keeps them for later."""
        taken = 0
        for _ in range(BATCHES_MAX):
            batch = self._alerts.claim(limit=BATCH_MAX, lease_seconds=LEASE_SECONDS)
            if not batch:
                break
            try:
                sent = self._bus.send(batch)
            except UnavailableError as away:
                logger().warning("alerts wait", waiting=len(batch), reason=str(away))
                break
            self._alerts.finish(sent)
            taken += len(sent)
            if len(sent) < len(batch):
                break
        count("Alerts.Sent", taken)
        return taken
