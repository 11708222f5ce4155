"""What happens on the wire, in both directions: webhooks sent again, calls of the API that fail."""

from __future__ import annotations

import copy
import json

from local.standins.server import Faults
from local.standins.stripe_state import State
from local.standins.stripe_webhooks import Webhooks

_BUSY = {409: "lock_timeout", 429: "rate_limit"}


class NetworkControls:
    """The controls that change no object."""

    state: State
    webhooks: Webhooks
    faults: Faults

    # Webhooks.

    def redeliver(self, event_id: str) -> None:
        """Send an event again, in the background."""
        with self.state.lock:
            event = copy.deepcopy(self.state.get("event", event_id))
        self.webhooks.redeliver(event)

    def redeliver_undelivered(self) -> int:
        """Send every event again that was not taken, oldest first; returns how many."""
        with self.state.lock:
            events = [e for e in reversed(self.state.newest("event")) if e["pending_webhooks"]]
            frozen = copy.deepcopy(events)
        for event in frozen:
            self.webhooks.redeliver(event)
        return len(frozen)

    def release(self) -> int:
        """Send the events held back by `webhook_faults.hold`; returns how many."""
        return self.webhooks.release()

    def drain(self, timeout: float = 10.0) -> None:
        """Wait until no delivery is under way or to be retried; raises `TimeoutError`."""
        self.webhooks.drain(timeout)

    # The API's own faults.

    def fail_next(self, times: int = 1, status: int = 500, match: str = ".* /v1/.*") -> None:
        """Answer the next calls with an error of Stripe's (500, 429, 409); nothing is done."""
        kind = "api_error" if status >= 500 else "invalid_request_error"
        error = {"message": "The stand-in was told to fail.", "type": kind}
        if status in _BUSY:
            error["code"] = _BUSY[status]
        body = json.dumps({"error": error}).encode()
        headers = {"content-type": "application/json", "request-id": "req_failed"}
        self.faults.add("status", match, times=times, status=status, body=body, headers=headers)

    def hang_next(self, seconds: float, times: int = 1, match: str = ".* /v1/.*") -> None:
        """Let the next calls wait before they are worked on."""
        self.faults.add("delay", match, times=times, seconds=seconds)

    def lose_next(self, times: int = 1, match: str = ".* /v1/.*") -> None:
        """Do the next calls, and cut the connection instead of answering."""
        self.faults.add("lose_answer", match, times=times)
