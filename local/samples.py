"""
Sample events made acceptable to a running stack.

The files in events/ carry a token that is a word and signatures that are too old. Here they get a real user's token and
the signatures Stripe and BabySea would send now; their bodies stay as they are.
"""

from __future__ import annotations

import base64
from copy import deepcopy
from typing import Any

from local.stack import Stack

Event = dict[str, Any]


def freshened(event: Event, stack: Stack, token: str) -> Event:
    """Return a copy of `event` that the stack's functions accept, acting for the user of `token`."""
    fresh = deepcopy(event)
    headers = fresh.get("headers", {})
    if "authorization" in headers:
        headers["authorization"] = f"Bearer {token}"
    if "stripe-signature" in headers:
        headers["stripe-signature"] = stack.stripe.sign(_body(fresh))
    if "x-babysea-signature" in headers:
        headers["x-babysea-signature"] = stack.babysea.sign(_body(fresh))
    return fresh


def _body(event: Event) -> bytes:
    body: str = event.get("body", "")
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
