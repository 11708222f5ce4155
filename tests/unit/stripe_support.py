"""What Stripe sends and answers, for the tests of the modules that face it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import stripe

from holdfast.stripe_client import connect

USER = UUID("33333333-3333-4333-8333-333333333333")
PURCHASE = UUID("66666666-6666-4666-8666-666666666666")
SESSION: dict[str, Any] = {
    "id": "cs_test_1",
    "object": "checkout.session",
    "mode": "payment",
    "status": "complete",
    "payment_status": "paid",
    "client_reference_id": str(PURCHASE),
    "currency": "usd",
    "amount_subtotal": 999,
    "amount_total": 999,
    "payment_intent": "pi_1",
    "metadata": {"user_id": str(USER)},
    "url": None,
    "created": 1795000000,
    "expires_at": 1795086400,
    "livemode": False,
    "a_field_of_the_future": {"x": [1]},
}


class Transport(stripe.HTTPClient):
    """Answers Stripe's SDK from a list; an exception in it is raised. The last one repeats."""

    name = "test"

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)
        self.requests: list[tuple[str, str, dict[str, str], dict[str, list[str]]]] = []

    def request(self, method: str, url: str, headers: Any, post_data: Any = None, **_: Any) -> Any:
        """Note the request and return `(body, status, headers)`."""
        self.requests.append((method, url, dict(headers), parse_qs(post_data or "")))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return json.dumps(body), status, {"request-id": "req_1"}

    def _sleep_time_seconds(self, *_: Any, **__: Any) -> float:
        return 0


def error(status: int, code: str | None = None, kind: str = "invalid_request_error") -> Any:
    """Return an error answer of Stripe."""
    return status, {"error": {"type": kind, "code": code, "message": "secret words"}}


def unreachable() -> Exception:
    """Return what a transport raises for a network fault."""
    return stripe.APIConnectionError("reset", should_retry=True)  # type: ignore[no-untyped-call]


def client(*answers: Any) -> tuple[stripe.StripeClient, Transport]:
    """Return a client of Stripe's SDK that talks to a list of answers."""
    transport = Transport(*answers)
    return connect("sk_test_1", "http://127.0.0.1:12111", http=transport), transport


def listing(*found: dict[str, Any], has_more: bool = False) -> Any:
    """Return a page of a list."""
    return 200, {"object": "list", "data": list(found), "has_more": has_more, "url": "/v1/things"}
