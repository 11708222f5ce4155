import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import fakeredis
import httpx
import pytest
from pydantic import SecretStr

from holdfast.config import RateLimit
from holdfast.errors import RateLimitedError
from holdfast.observability import metrics
from holdfast.rate_limit import RateLimiter, rate_limiter

USER = UUID("33333333-3333-4333-8333-333333333333")
OTHER = UUID("44444444-4444-4444-8444-444444444444")
DATABASE = SecretStr("postgresql://u@localhost/app")


class RestServer:
    """Redis over HTTP as Upstash offers it: commands as JSON arrays, answers in base64."""

    def __init__(self) -> None:
        self.redis = fakeredis.FakeRedis()
        self.headers: list[dict[str, str]] = []
        self.delay = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.headers.append({k.lower(): v for k, v in self.headers.items()})
                command = json.loads(self.rfile.read(int(self.headers["content-length"])))
                time.sleep(outer.delay)
                # fakeredis does not know the first line of a script that Redis 7 reads.
                command = [
                    part.split("\n", 1)[1] if str(part)[:2] == "#!" else part for part in command
                ]
                result = outer.redis.execute_command(*command)  # type: ignore[no-untyped-call]
                body = json.dumps({"result": result}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                with contextlib.suppress(OSError):  # the client of the slow test has left
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(name="server")
def _server() -> Any:
    server = RestServer()
    yield server
    server.close()


def settings(**more: Any) -> RateLimit:
    """Return settings of the limiter."""
    return RateLimit(stage="test", database_url=DATABASE, **more)


def limiter_at(url: str, per_minute: int) -> RateLimiter:
    """Return the limiter these settings describe."""
    return rate_limiter(
        settings(
            upstash_redis_rest_url=url,
            upstash_redis_rest_token=SecretStr("token-of-redis"),
            requests_per_minute=per_minute,
        )
    )


def test_the_fourth_request_of_a_minute_is_refused(server: Any) -> None:
    """Three a minute pass, the next says how long to wait; another user is not touched."""
    limiter = limiter_at(server.url, 3)
    for _ in range(3):
        limiter.check(USER)

    with pytest.raises(RateLimitedError) as caught:
        limiter.check(USER)
    limiter.check(OTHER)

    assert caught.value.retry_after is not None
    assert 1 <= caught.value.retry_after <= 60


def test_the_token_travels_and_telemetry_does_not(server: Any) -> None:
    """Redis sees the token and no telemetry."""
    limiter_at(server.url, 3).check(USER)

    [headers] = server.headers
    assert headers["authorization"] == "Bearer token-of-redis"
    assert not any("telemetry" in name for name in headers)


def test_a_slow_redis_does_not_hold_the_request(server: Any) -> None:
    """After less than a second the request goes on."""
    server.delay = 1.5
    limiter = limiter_at(server.url, 1)
    started = time.monotonic()

    limiter.check(USER)

    assert time.monotonic() - started < 1.4


def test_a_redis_that_is_away_lets_requests_through_and_is_counted() -> None:
    """Nobody is refused because Redis is down; the metric tells."""
    metrics().metric_set.clear()
    limiter = limiter_at("http://127.0.0.1:9", 1)

    for _ in range(3):
        limiter.check(USER)

    assert metrics().metric_set["RateLimiterUnavailable"]["Value"] == [1.0, 1.0, 1.0]
    metrics().metric_set.clear()


@pytest.mark.parametrize("failure", [httpx.ReadError("x"), KeyError("result"), ValueError("json")])
def test_any_failure_of_the_client_lets_the_request_through(failure: Any) -> None:
    """Whatever the client raises is no reason to refuse a user."""

    def limit(identifier: str) -> Any:
        raise failure

    RateLimiter(SimpleNamespace(limit=limit)).check(USER)
    metrics().metric_set.clear()


@pytest.mark.parametrize(("reset", "seconds"), [(1012.2, 13), (999.0, 1), (9999.0, 60)])
def test_the_wait_is_between_a_second_and_a_minute(reset: Any, seconds: Any) -> None:
    """Clocks that differ do not send a client away for an hour."""
    verdict = SimpleNamespace(allowed=False, reset=reset)
    limiter = RateLimiter(SimpleNamespace(limit=lambda _: verdict), clock=lambda: 1000.0)

    with pytest.raises(RateLimitedError) as caught:
        limiter.check(USER)
    assert caught.value.retry_after == seconds


def test_without_redis_nobody_is_refused() -> None:
    """An unconfigured limiter allows everything."""
    limiter = rate_limiter(settings())
    for _ in range(100):
        limiter.check(USER)
