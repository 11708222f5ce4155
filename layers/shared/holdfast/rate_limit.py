"""
How often one user may ask, counted in Redis.

It protects against bursts only. The limits that money depends on are counted in the database, so
a Redis that is away lets requests through.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from holdfast.config import RateLimit
from holdfast.errors import RateLimitedError
from holdfast.observability import count, logger

if TYPE_CHECKING:
    from upstash_redis import Redis

TIMEOUT_SECONDS = 0.8

_WINDOW_SECONDS = 60


class Verdict(Protocol):
    """What a limiter answers; `reset` is in unix seconds."""

    allowed: bool
    reset: float


class Limiter(Protocol):
    """A counter of requests, as upstash-ratelimit offers it."""

    def limit(self, identifier: str) -> Verdict:
        """Count one request of `identifier`."""


class RateLimiter:
    """Refuse users who ask more often than the limiter allows; with no limiter, refuse nobody."""

    def __init__(self, limiter: Limiter | None, *, clock: Callable[[], float] = time.time) -> None:
        self._limiter = limiter
        self._clock = clock

    def check(self, user_id: UUID) -> None:
        """Count one request of the user; raises `RateLimitedError` with the seconds to wait."""
        if self._limiter is None:
            return
        try:
            verdict = self._limiter.limit(str(user_id))
        except Exception as error:  # noqa: BLE001 - the client raises what httpx and JSON raise
            logger().warning("rate limiter unavailable", error=type(error).__name__)
            count("RateLimiterUnavailable")
            return
        if not verdict.allowed:
            wait = math.ceil(verdict.reset - self._clock())
            raise RateLimitedError(
                "Too many requests in the last minute.",
                retry_after=min(max(wait, 1), _WINDOW_SECONDS),
            )


def rate_limiter(settings: RateLimit) -> RateLimiter:
    """Return the limiter the settings describe."""
    if settings.upstash_redis_rest_url is None or settings.upstash_redis_rest_token is None:
        return RateLimiter(None)
    return RateLimiter(
        _upstash(
            settings.upstash_redis_rest_url,
            settings.upstash_redis_rest_token.get_secret_value(),
            settings.requests_per_minute,
        )
    )


def _upstash(url: str, token: str, per_minute: int) -> Any:  # noqa: ANN401 - typed by Limiter
    from upstash_ratelimit import Ratelimit, SlidingWindow  # noqa: PLC0415 - 65 ms, seldom used
    from upstash_redis import Redis  # noqa: PLC0415

    redis = Redis(url, token, rest_retries=0, allow_telemetry=False, read_your_writes=False)
    _set_timeout(redis)
    window = SlidingWindow(max_requests=per_minute, window=_WINDOW_SECONDS, unit="s")
    return Ratelimit(redis, window, prefix="holdfast:requests")


def _set_timeout(redis: Redis) -> None:
    # The client waits for ever and has no option for it; the httpx client inside has.
    redis._http._client.timeout = TIMEOUT_SECONDS  # noqa: SLF001
