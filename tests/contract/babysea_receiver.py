"""A callback receiver for the tests of the BabySea stand-in."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any

from local.standins.server import Request, Response, StandIn


@dataclass
class Callback:
    """One call as it came in; `at` is the monotonic time."""

    body: bytes
    headers: dict[str, str]
    at: float = field(default_factory=time.monotonic)

    @property
    def event(self) -> str:
        """The event's name in the body."""
        name: str = json.loads(self.body)["webhook_event"]
        return name

    @property
    def data(self) -> dict[str, Any]:
        """The event's data."""
        data: dict[str, Any] = json.loads(self.body)["webhook_data"]
        return data

    @property
    def delivery_id(self) -> str:
        """The delivery's id in the header."""
        return self.headers["x-babysea-delivery-id"]

    def signed_at(self) -> int:
        """Return the `t` of the signature."""
        return int(self.headers["x-babysea-signature"].split(",")[0].removeprefix("t="))

    def verifies(self, secret: str) -> bool:
        """Tell whether the signature is right, by a third implementation of the rule."""
        stamp, _, given = self.headers["x-babysea-signature"].partition(",v1=")
        message = stamp.removeprefix("t=").encode() + b"." + self.body
        return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest() == given


class Receiver(StandIn):
    """Keeps every callback; answers the statuses in `answers` first, then 200."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: list[Callback] = []
        self.answers: list[int] = []
        self.route("POST", "/webhooks/babysea", self._receive)

    @property
    def hook(self) -> str:
        """The address callbacks go to."""
        return f"{self.url}/webhooks/babysea"

    @property
    def events(self) -> list[str]:
        """The events in the order they came."""
        return [callback.event for callback in self.callbacks]

    def _receive(self, request: Request) -> Response:
        self.callbacks.append(Callback(request.body, request.headers))
        return Response(self.answers.pop(0) if self.answers else 200)
