"""
Idempotency keys: the first answer of an executed call is kept and replayed, errors included.

A call whose parameters are refused before it executes keeps nothing, as Stripe documents it.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass

from local.standins.server import Response
from local.standins.stripe_wire import StripeError

KEY_LENGTH_MAX = 255
KEPT_SECONDS = 24 * 3600


@dataclass
class _Call:
    fingerprint: str
    at: int
    answer: Response | None = None


class IdempotencyKeys:
    """The keys of one account, forgotten after a day by its clock `now`."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._calls: dict[str, _Call] = {}

    def run(self, key: str | None, fingerprint: str, execute: Callable[[], Response]) -> Response:
        """
        Answer by `execute`, or by what the same key was answered before.

        Raises `StripeError` for a key that is too long, in use by a call still running (409), or
        given with another `fingerprint` (method, path and parameters).
        """
        if key is None:
            return execute()
        if not 0 < len(key) <= KEY_LENGTH_MAX:
            raise StripeError(f"Idempotency keys have 1 to {KEY_LENGTH_MAX} characters.")
        with self._lock:
            known = self._calls.get(key)
            if known is None or known.at + KEPT_SECONDS <= self._now():
                call = self._calls[key] = _Call(fingerprint, self._now())
            elif known.fingerprint != fingerprint:
                raise StripeError(
                    "Keys for idempotent requests can only be used with the same parameters they "
                    f"were first used with. Try using a key other than '{key}'.",
                    kind="idempotency_error",
                )
            elif known.answer is None:
                raise StripeError(
                    f"Another request with the idempotency key '{key}' is still in progress.",
                    code="idempotency_key_in_use",
                    status=409,
                )
            else:
                replayed = {**known.answer.headers, "idempotent-replayed": "true"}
                replayed["original-request"] = replayed.pop("request-id")
                return dataclasses.replace(known.answer, headers=replayed)
        call.answer = execute()
        return call.answer
