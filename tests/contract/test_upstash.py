"""The real upstash_redis and upstash_ratelimit, unchanged, against the stand-in."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from upstash_ratelimit import FixedWindow, Ratelimit, SlidingWindow, TokenBucket
from upstash_redis import Redis
from upstash_redis.errors import UpstashError

from local.standins.upstash import Upstash

TOKEN = "upstash-token"
HOUR = 3_600_000


@dataclass
class Clock:
    """The limiters' clock, in the middle of an hour."""

    milliseconds: int = 500_000 * HOUR + HOUR // 2


@pytest.fixture(scope="module")
def _upstash() -> Iterator[Upstash]:
    with Upstash(TOKEN) as stand_in:
        yield stand_in


@pytest.fixture
def upstash(_upstash: Upstash) -> Upstash:
    """Return the stand-in, empty and without faults."""
    _upstash.faults.clear()
    _upstash.flush()
    return _upstash


@pytest.fixture
def redis(upstash: Upstash) -> Iterator[Redis]:
    """Return the real client as the product makes it."""
    with Redis(upstash.url, TOKEN, rest_retries=0, allow_telemetry=False) as client:
        yield client


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let the test move the time the limiters go by."""
    clock = Clock()
    monkeypatch.setattr("upstash_ratelimit.limiter.now_ms", lambda: clock.milliseconds)
    return clock


def test_commands_answer_as_in_redis(redis: Redis) -> None:
    """Strings, numbers, lists, hashes and nothing come back as the client expects them."""
    assert redis.set("name", "Zoë ✓")
    assert redis.get("name") == "Zoë ✓"
    assert redis.get("nothing") is None
    assert redis.incrby("count", 3) == 3
    assert redis.hset("hash", values={"a": "1", "b": "2"}) == 2
    assert redis.hgetall("hash") == {"a": "1", "b": "2"}
    assert redis.rpush("list", "x", "OK") == 2
    assert redis.lrange("list", 0, -1) == ["x", "OK"]
    assert redis.mget("name", "nothing") == ["Zoë ✓", None]
    assert redis.ping() == "PONG"
    assert not redis.set("name", "again", nx=True)


def test_keys_expire(redis: Redis) -> None:
    """A key with a lifetime is gone after it."""
    redis.set("name", "x", px=60_000)
    assert 0 < redis.pttl("name") <= 60_000
    assert redis.get("name") == "x"
    redis.pexpire("name", 1)
    time.sleep(0.01)
    assert redis.get("name") is None


def test_errors_carry_the_words_of_redis(redis: Redis) -> None:
    """A refused command raises the client's error with Redis's code in front."""
    redis.set("text", "x")
    with pytest.raises(UpstashError, match=r"^ERR value is not an integer"):
        redis.incr("text")
    with pytest.raises(UpstashError, match=r"^WRONGTYPE "):
        redis.lpush("text", "y")
    with pytest.raises(UpstashError, match=r"^ERR unknown command"):
        redis.execute(["NONSENSE"])
    with pytest.raises(UpstashError, match=r"^ERR Command is not available: 'BLPOP'"):
        redis.execute(["BLPOP", "list", 0])


def test_wrong_token_is_refused(http: httpx.Client, upstash: Upstash) -> None:
    """Another token is told so by the client, and by status 401 on the wire."""
    with (
        Redis(upstash.url, "wrong", rest_retries=0) as client,
        pytest.raises(UpstashError, match="WRONGPASS"),
    ):
        client.get("name")
    for headers in ({}, {"authorization": f"Basic {TOKEN}"}):
        answer = http.post(upstash.url, json=["PING"], headers=headers)
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/", b"{", 400),
        ("/", b"[]", 400),
        ("/", b'[["PING"]]', 400),
        ("/", b'["GET"]', 400),
        ("/pipeline", b'["PING"]', 400),
        ("/multi-exec", b"[]", 400),
        ("/get/name", b"", 404),
    ],
)
def test_malformed_requests_are_refused(
    http: httpx.Client, upstash: Upstash, path: str, body: bytes, status: int
) -> None:
    """What is no command answers with an error and does nothing."""
    answer = _post(http, upstash, path, content=body)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_plain_encoding_is_the_default(http: httpx.Client, upstash: Upstash) -> None:
    """Only a client that asks for base64 gets it, and OK is never encoded."""
    assert _post(http, upstash, "/", json=["SET", "k", "v"]).json() == {"result": "OK"}
    assert _post(http, upstash, "/", json=["GET", "k"]).json() == {"result": "v"}
    encoded = {"upstash-encoding": "base64"}
    assert _post(http, upstash, "/", json=["GET", "k"], headers=encoded).json() == {
        "result": "dg=="
    }
    assert _post(http, upstash, "/", json=["SET", "k", "v"], headers=encoded).json() == {
        "result": "OK"
    }


def test_pipeline_goes_on_after_an_error(
    http: httpx.Client, upstash: Upstash, redis: Redis
) -> None:
    """Each command of a pipeline has its own result or error."""
    pipeline = redis.pipeline()
    pipeline.set("a", "1")
    pipeline.incr("a")
    assert pipeline.exec() == [True, 2]
    commands = [["SET", "t", "x"], ["INCR", "t"], ["NONSENSE"], ["GET", "t"]]
    answer = _post(http, upstash, "/pipeline", json=commands)
    assert answer.status_code == 200
    assert [sorted(item) for item in answer.json()] == [
        ["result"],
        ["error"],
        ["error"],
        ["result"],
    ]


def test_transaction_is_all_or_nothing(http: httpx.Client, upstash: Upstash, redis: Redis) -> None:
    """A transaction runs whole; one command that cannot be queued discards the rest."""
    transaction = redis.multi()
    transaction.set("a", "1")
    transaction.incr("a")
    assert transaction.exec() == [True, 2]
    answer = _post(http, upstash, "/multi-exec", json=[["SET", "a", "9"], ["NONSENSE"]])
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("EXECABORT")
    assert redis.get("a") == "2"
    late = _post(http, upstash, "/multi-exec", json=[["SET", "t", "x"], ["INCR", "t"]]).json()
    assert late[0] == {"result": "OK"}
    assert late[1]["error"].startswith("ERR value is not an integer")


def test_scripts_run_by_text_and_by_hash(redis: Redis) -> None:
    """A script runs by its text, by its hash once known, and not by an unknown hash."""
    script = "#!lua flags=allow-key-locking\nreturn {KEYS[1], ARGV[1], 3}"
    sha = hashlib.sha1(script.encode()).hexdigest()
    with pytest.raises(UpstashError, match=r"^NOSCRIPT "):
        redis.evalsha(sha, ["k"], ["v"])
    assert redis.script_load(script) == sha
    assert redis.script_exists(sha, "0" * 40) == [True, False]
    assert redis.evalsha(sha, ["k"], ["v"]) == ["k", "v", 3]
    assert redis.eval(script, ["k"], ["w"]) == ["k", "w", 3]
    redis.script_flush()
    with pytest.raises(UpstashError, match=r"^NOSCRIPT "):
        redis.evalsha(sha, ["k"], ["v"])
    with pytest.raises(UpstashError, match=r"^ERR .*boom"):
        redis.eval("return redis.error_reply('boom')")


def test_sliding_window_allows_then_refuses(redis: Redis, clock: Clock) -> None:
    """The limit is exact, counts each identifier apart, and a reset allows again."""
    limit = Ratelimit(redis, SlidingWindow(max_requests=3, window=1, unit="h"), prefix="test")
    answers = [limit.limit("alice") for _ in range(5)]
    assert [answer.allowed for answer in answers] == [True, True, True, False, False]
    assert [answer.remaining for answer in answers] == [2, 1, 0, 0, 0]
    assert {answer.reset for answer in answers} == {(clock.milliseconds + HOUR / 2) / 1000}
    assert limit.get_remaining("bob") == 3
    assert limit.limit("bob").allowed
    for key in redis.keys("test:alice*"):
        redis.delete(key)
    assert limit.limit("alice").allowed


def test_sliding_window_slides(redis: Redis, clock: Clock) -> None:
    """What was used in the last window counts less and less in the next."""
    limit = Ratelimit(redis, SlidingWindow(max_requests=4, window=1, unit="h"))
    assert [limit.limit("alice").allowed for _ in range(5)] == [True] * 4 + [False]
    clock.milliseconds += HOUR  # half of the next window has passed: two of the four still count
    assert [limit.limit("alice").allowed for _ in range(3)] == [True, True, False]
    clock.milliseconds += 2 * HOUR
    assert limit.limit("alice").allowed


@pytest.mark.parametrize(
    "limiter",
    [
        FixedWindow(max_requests=2, window=1, unit="d"),
        TokenBucket(max_tokens=2, refill_rate=1, interval=1, unit="d"),
    ],
    ids=["fixed window", "token bucket"],
)
def test_other_limiters_work_too(redis: Redis, clock: Clock, limiter: Any) -> None:
    """The scripts of the library's other limiters run as well."""
    limit = Ratelimit(redis, limiter)
    assert [limit.limit("alice").allowed for _ in range(3)] == [True, True, False]


def test_outage_reaches_the_caller(upstash: Upstash, redis: Redis) -> None:
    """While the service is down the client raises a transport error, and works again after."""
    upstash.faults.add("down", times=1)
    with pytest.raises(httpx.TransportError):
        redis.get("name")
    assert redis.get("name") is None


def _post(
    http: httpx.Client,
    upstash: Upstash,
    path: str,
    headers: dict[str, str] | None = None,
    **content: Any,
) -> httpx.Response:
    authorization = {"authorization": f"Bearer {TOKEN}"}
    return http.post(
        f"{upstash.url}{path}", headers={**authorization, **(headers or {})}, **content
    )
