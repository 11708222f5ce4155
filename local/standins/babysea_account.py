"""
The operator's account at BabySea: its credits, its idempotency keys, its rate limit.

Amounts are exact `Decimal`s: a reservation is taken when a generation is accepted, becomes a charge
when it succeeds, and comes back when it fails or is canceled.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from local.standins.babysea_behaviour import Behaviour
from local.standins.babysea_errors import Refused
from local.standins.babysea_job import Job


@dataclass(frozen=True)
class LedgerEntry:
    """One movement; `kind` is `reserve`, `charge`, `refund` or `add`. A charge moves nothing."""

    kind: str
    amount: Decimal
    generation_id: str | None
    balance: Decimal


class Account:
    """The account's balance. Not thread-safe: `Jobs` calls it under its own lock."""

    def __init__(self, balance: Decimal) -> None:
        self.account_id = str(uuid.uuid4())
        self.created_at = datetime.now(UTC)
        self.balance = balance
        self.ledger: list[LedgerEntry] = []

    @property
    def billed(self) -> Decimal:
        """The credits charged for good."""
        return sum((e.amount for e in self.ledger if e.kind == "charge"), Decimal(0))

    def add(self, amount: Decimal) -> None:
        """Top the balance up."""
        self.balance += amount
        self._write("add", amount, None)

    def reserve(self, generation_id: str, amount: Decimal) -> None:
        """Take `amount` out of the balance; raises `Refused` (BSE1004) when it is not there."""
        if amount > self.balance:
            raise Refused("BSE1004")
        self.balance -= amount
        self._write("reserve", amount, generation_id)

    def charge(self, generation_id: str, amount: Decimal) -> None:
        """Keep `amount` of what was reserved."""
        self._write("charge", amount, generation_id)

    def give_back(self, generation_id: str, amount: Decimal) -> None:
        """Return `amount` of what was reserved to the balance."""
        if amount:
            self.balance += amount
            self._write("refund", amount, generation_id)

    def take_again(self, generation_id: str, amount: Decimal) -> None:
        """Reserve what was given back too early, even below zero."""
        self.balance -= amount
        self._write("reserve", amount, generation_id)

    def _write(self, kind: str, amount: Decimal, generation_id: str | None) -> None:
        self.ledger.append(LedgerEntry(kind, amount, generation_id, self.balance))


@dataclass
class KeyUse:
    """What one idempotency key was used for; without a generation, the first call still runs."""

    fingerprint: Any
    at: float
    job: Job | None = None
    running: bool = True


class IdempotencyKeys:
    """Which keys were used, in the scope account, route and model. Thread-safe."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._uses: dict[tuple[str, ...], KeyUse] = {}
        self._lock = threading.Lock()

    def claim(self, scope: tuple[str, ...], body: bytes) -> KeyUse:
        """
        Return the use of a key: a new one that runs, or the finished one that is to be replayed.

        Raises `Refused`: BSE2015 for another body, BSE2016 while the first call still runs.
        """
        fingerprint = body if self._behaviour.same_body == "bytes" else json.loads(body)
        with self._lock:
            use = self._uses.get(scope)
            if use is None or use.at + self._behaviour.key_life <= time.time():
                use = self._uses[scope] = KeyUse(fingerprint, time.time())
                return use
            if use.fingerprint != fingerprint:
                raise Refused("BSE2015", "this key was used with another body")
            if use.running:
                raise Refused(
                    "BSE2016",
                    "the first call with this key is still running",
                    retryable=self._behaviour.in_progress_retryable,
                )
            return use

    def finish(self, scope: tuple[str, ...], use: KeyUse) -> None:
        """End a running use; one that led to no generation is forgotten, errors are not kept."""
        with self._lock:
            use.running = False
            if use.job is None and self._uses.get(scope) is use:
                del self._uses[scope]


class RateWindow:
    """The account's rate limit: requests in a window of fixed length. Thread-safe."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._lock = threading.Lock()
        self._used = 0
        self._ends = 0.0

    def count(self) -> None:
        """Count one request; raises `Refused` (BSE1005) beyond the limit."""
        limit = self._behaviour.rate_limit
        if limit is None:
            return
        with self._lock:
            self._renew()
            self._used += 1
            if self._used > limit:
                wait = max(1, round(self._ends - time.time()))
                raise Refused("BSE1005", details={"retry_after_seconds": wait, "limit": limit})

    def headers(self) -> dict[str, str]:
        """Return the rate-limit headers."""
        limit = self._behaviour.rate_limit
        if limit is None:
            return {}
        with self._lock:
            self._renew()
            return {
                "x-ratelimit-limit": str(limit),
                "x-ratelimit-remaining": str(max(0, limit - self._used)),
                "x-ratelimit-reset": str(int(self._ends) + 1),
            }

    def _renew(self) -> None:
        if time.time() >= self._ends:
            self._used, self._ends = 0, time.time() + self._behaviour.rate_window
