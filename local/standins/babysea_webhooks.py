"""
BabySea's callbacks: signing, delivery with attempts, and the ways they go wrong.

The signing code is this stand-in's own: a mistake in the product's verifier must not find its twin
here. Delivery follows the documents: at least once, five attempts, an endpoint that fails too often
is disabled and its events queue until the owner releases them.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from local.standins.babysea_background import Background
from local.standins.babysea_behaviour import Behaviour
from local.standins.babysea_errors import iso

TEST_GENERATION_ID = "00000000-0000-0000-0000-000000000000"
_CLOCK_ERRORS = {"stale": -600, "future": 600}
_PAUSE_BEFORE_FOLLOWER = 0.1


def sign(secret: str, body: bytes, timestamp: int) -> str:
    """Return the signature header; the whole secret is the key, its `whsec_` prefix included."""
    message = f"{timestamp}.".encode() + body
    return f"t={timestamp},v1={hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()}"


@dataclass
class Attempt:
    """One call of the receiver: its status, or what broke."""

    at: float
    status: int | None
    error: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the receiver answered 2xx."""
        return self.status is not None and 200 <= self.status < 300


@dataclass
class Delivery:
    """
    One event on its way to one endpoint.

    `state`: `sending`, `delivered`, `failed` (attempts used up), `dropped` (by a fault), `held`
    (waits for a later event), `queued` (no active endpoint).
    """

    event: str
    data: dict[str, Any]
    delivery_id: str
    body: bytes
    headers: dict[str, str]
    fault: str = ""
    state: str = "sending"
    attempts: list[Attempt] = field(default_factory=list)
    follower: Delivery | None = field(default=None, repr=False)

    @property
    def generation_id(self) -> str | None:
        """The generation it is about, if any."""
        generation_id: str | None = self.data.get("generation_id")
        return generation_id


class Webhooks:
    """Delivers events to one endpoint and keeps the log of all deliveries."""

    def __init__(
        self, url: str | None, secret: str, behaviour: Behaviour, background: Background
    ) -> None:
        self.url = url
        self.secret = secret
        self.enabled = True
        self.log: list[Delivery] = []
        self._behaviour = behaviour
        self._background = background
        self._held: dict[str | None, Delivery] = {}
        self._failures = 0
        self._lock = threading.Lock()

    def send(self, event: str, data: dict[str, Any], fault: str = "") -> None:
        """Send an event in the background, with retries and the given fault."""
        delivery = self._make(event, data, fault)
        if fault == "drop":
            delivery.state = "dropped"
        elif fault == "reorder" and event == "generation.started":
            delivery.state = "held"
            with self._lock:
                self._held[delivery.generation_id] = delivery
        else:
            if fault == "reorder":
                with self._lock:
                    delivery.follower = self._held.pop(delivery.generation_id, None)
            elif fault == "replay":
                delivery.follower = self._make(event, data)
                delivery.follower.state = "held"
            elif fault == "duplicate":
                self._start(self._twin(delivery))
            self._start(delivery, self._behaviour.webhook_late if fault == "late" else 0)

    def send_now(self, event: str, data: dict[str, Any]) -> None:
        """Send an event and return after its first attempt; retries go on in the background."""
        self._attempt(self._make(event, data))

    def deliver(
        self,
        event: str,
        data: dict[str, Any],
        *,
        body: bytes | None = None,
        secret: str | None = None,
        timestamp: int | None = None,
        signature: str | None = None,
        delivery_id: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> int:
        """
        Call the receiver once with a callback of the caller's making; return its status.

        Whatever is not given is what BabySea would send. `headers` are laid over the rest; an
        empty value removes one. Raises `OSError` when the receiver cannot be reached.
        """
        delivery = self._make(event, data, delivery_id=delivery_id)
        delivery.body = delivery.body if body is None else body
        moment = int(time.time()) if timestamp is None else timestamp
        signed = sign(self.secret if secret is None else secret, delivery.body, moment)
        delivery.headers["X-BabySea-Signature"] = signed if signature is None else signature
        delivery.headers |= headers or {}
        delivery.headers = {name: value for name, value in delivery.headers.items() if value}
        status = self._post(delivery)
        delivery.attempts.append(Attempt(time.time(), status))
        delivery.state = "delivered" if delivery.attempts[-1].accepted else "failed"
        return status

    def release(self) -> None:
        """Enable the endpoint and send what has queued, with new ids, times and signatures."""
        with self._lock:
            self.enabled, self._failures = True, 0
            queued = [delivery for delivery in self.log if delivery.state == "queued"]
        for delivery in queued:
            delivery.state = "released"
            self._start(self._make(delivery.event, delivery.data))

    def _make(
        self, event: str, data: dict[str, Any], fault: str = "", delivery_id: str | None = None
    ) -> Delivery:
        delivery_id = delivery_id or str(uuid.uuid4())
        moment = iso(datetime.now(UTC))
        payload = {
            "webhook_event": event,
            "webhook_timestamp": moment,
            "webhook_delivery_id": delivery_id,
            "webhook_data": data,
        }
        headers = {
            "Content-Type": "application/json",
            "X-BabySea-Event": event,
            "X-BabySea-Timestamp": moment,
            "X-BabySea-Delivery-Id": delivery_id,
        }
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        return self._logged(Delivery(event, data, delivery_id, body, headers, fault))

    def _twin(self, delivery: Delivery) -> Delivery:
        """Return a copy that is the same on the wire, signature included."""
        self._sign(delivery)
        headers = dict(delivery.headers)
        return self._logged(
            Delivery(delivery.event, delivery.data, delivery.delivery_id, delivery.body, headers)
        )

    def _logged(self, delivery: Delivery) -> Delivery:
        with self._lock:
            self.log.append(delivery)
        return delivery

    def _sign(self, delivery: Delivery) -> None:
        secret = "whsec_of_somebody_else" if delivery.fault == "bad_signature" else self.secret
        moment = int(time.time()) + _CLOCK_ERRORS.get(delivery.fault, 0)
        delivery.headers["X-BabySea-Signature"] = sign(secret, delivery.body, moment)

    def _start(self, delivery: Delivery, seconds: float = 0) -> None:
        delivery.state = "sending"
        self._background.after(
            seconds + self._behaviour.webhook_waits[0], self._attempting(delivery)
        )

    def _attempting(self, delivery: Delivery) -> Callable[[], None]:
        return lambda: self._attempt(delivery)

    def _attempt(self, delivery: Delivery) -> None:
        if not self.enabled or self.url is None:
            delivery.state = "queued"
            return
        if self._behaviour.resign_attempts or "X-BabySea-Signature" not in delivery.headers:
            self._sign(delivery)
        started = time.time()
        try:
            attempt = Attempt(started, self._post(delivery))
        except (OSError, http.client.HTTPException) as error:
            attempt = Attempt(started, None, f"{type(error).__name__}: {error}")
        delivery.attempts.append(attempt)
        self._count(attempt)
        waits = self._behaviour.webhook_waits
        if attempt.accepted:
            delivery.state = "delivered"
        elif len(delivery.attempts) < len(waits):
            self._background.after(waits[len(delivery.attempts)], self._attempting(delivery))
        else:
            delivery.state = "failed"
        follower, delivery.follower = delivery.follower, None
        if follower:
            self._start(follower, _PAUSE_BEFORE_FOLLOWER)

    def _count(self, attempt: Attempt) -> None:
        limit = self._behaviour.disable_after
        with self._lock:
            self._failures = 0 if attempt.accepted else self._failures + 1
            if limit is not None and self._failures >= limit:
                self.enabled = False

    def _post(self, delivery: Delivery) -> int:
        """Call the receiver; redirects are not followed, as any status but 2xx is a failure."""
        if self.url is None:
            raise ConnectionError("the stand-in has no webhook_url")
        url = urlsplit(self.url)
        connect = (
            http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        )
        connection = connect(url.hostname or "", url.port, timeout=self._behaviour.webhook_timeout)
        path = f"{url.path or '/'}{'?' + url.query if url.query else ''}"
        try:
            connection.request("POST", path, delivery.body, delivery.headers)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()
