"""What the BabySea tests share: a thin client and a receiver of callbacks."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from local.standins.server import Request, Response, StandIn

API_KEY = "bye_test-Key_1"
SECRET = "whsec_test_1"
FLUX, SEEDREAM, SEEDANCE = "bfl/flux-schnell", "bytedance/seedream-4", "bytedance/seedance-1-pro"


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


class Api:
    """A thin client: paths in, answers out."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def post(self, model: str = FLUX, key: str | None = None, **body: Any) -> httpx.Response:
        """Create a generation; fields are named without their prefix."""
        kind = "video" if "duration" in body else "image"
        fields = {f"generation_{k}": v for k, v in ({"prompt": "a lamp"} | body).items()}
        headers = {"idempotency-key": key} if key else {}
        return self.http.post(f"/v1/generate/{kind}/{model}", json=fields, headers=headers)

    def create(self, model: str = FLUX, key: str | None = None, **body: Any) -> str:
        """Create a generation that must be accepted; return its id."""
        answer = self.post(model, key, **body)
        assert answer.status_code == 200, answer.text
        generation_id: str = answer.json()["data"]["generation_id"]
        return generation_id

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Return the data of a GET that must succeed."""
        answer = self.http.get(f"/v1/{path}", params=query)
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def record(self, generation_id: str) -> dict[str, Any]:
        """Return a generation's record."""
        return self.get(f"content/{generation_id}")

    def cancel(self, generation_id: str) -> httpx.Response:
        """Cancel a generation."""
        return self.http.post(f"/v1/content/generation/cancel/{generation_id}")
