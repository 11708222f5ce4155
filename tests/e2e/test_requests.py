from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.e2e.people import Person, problem
from tests.e2e.world import World

SOMEBODY = "7f0c1f6e-3f43-4a9b-9d0e-0d2a3c1b5e6f"
FRONTEND = "http://localhost:8000"


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"model": "no/such-model"}, ["model"]),
        ({"model": "qwen/image"}, ["model"]),
        ({"model": 7}, ["model"]),
        ({"model": None, "prompt": None}, ["model", "prompt"]),
        ({"prompt": ""}, ["prompt"]),
        ({"prompt": "x" * 4001}, ["prompt"]),
        ({"ratio": "7:5"}, ["ratio"]),
        ({"ratio": "7:5", "output_format": "bmp"}, ["ratio", "output_format"]),
        ({"output_count": 2}, ["output_count"]),
        ({"duration": 5}, ["duration"]),
        ({"audio": True}, ["audio"]),
        ({"audio": "yes"}, ["audio"]),
        ({"options": {"seed": 1}}, ["options.seed"]),
        ({"input_asset_ids": ["x"]}, ["input_asset_ids.0"]),
        ({"input_asset_ids": [SOMEBODY] * 4}, ["input_asset_ids"]),
        ({"generation_prompt": "smuggled"}, ["generation_prompt"]),
        ({"cost_credits": "0"}, ["cost_credits"]),
        ({"model": "bytedance/seedance-1-pro"}, ["duration", "resolution"]),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("path", ["/generations", "/estimates"])
def test_a_request_is_refused_field_by_field(
    alice: Person, path: str, changes: dict[str, Any], fields: list[str]
) -> None:
    """422 names each field that is wrong; nothing is reserved and nothing echoed."""
    headers = {"idempotency-key": str(uuid4())}

    answer = alice.http.post(path, json=alice.wish() | changes, headers=headers)

    found = problem(answer, 422, "invalid_request")
    assert [error["field"].removeprefix("body.") for error in found["errors"]] == fields
    assert alice.credits() == ("10.000", "0.000", "0.000")


@pytest.mark.parametrize(
    "key", [None, "", "with space", "x" * 256, "tab\tin it"], ids=lambda key: repr(key)[:20]
)
def test_an_idempotency_key_is_needed(alice: Person, key: str | None) -> None:
    """Without a usable key nothing is started: a lost answer could not be repeated safely."""
    headers = {} if key is None else {"idempotency-key": key}

    answer = alice.http.post("/generations", json=alice.wish(), headers=headers)

    found = problem(answer, 422, "invalid_request")
    assert [error["field"].lower().replace("_", "-") for error in found["errors"]] == [
        "idempotency-key"
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b'{"model": NaN}',
        b'{"prompt": "a\\u0000b"}',
        b'{"prompt": "\\ud800"}',
        b"[" * 50_000,
        b'{"prompt": "\x00"}',
    ],
    ids=lambda body: repr(body[:20]),
)
@pytest.mark.parametrize("path", ["/generations", "/checkout", "/uploads", "/estimates"])
def test_a_body_that_is_no_json_is_malformed(alice: Person, path: str, body: bytes) -> None:
    """What cannot be read, or could not be stored, is a 400 and never an error of ours."""
    answer = alice.http.post(
        path,
        content=body,
        headers={"content-type": "application/json", "idempotency-key": "k"},
    )

    problem(answer, 400, "malformed_request")


@pytest.mark.parametrize("path", ["/generations", "/checkout", "/uploads", "/estimates"])
def test_a_missing_body_is_a_missing_field(alice: Person, path: str) -> None:
    """Nothing at all is readable and incomplete."""
    answer = alice.http.post(path, headers={"idempotency-key": "k"})

    found = problem(answer, 422, "invalid_request")
    assert [error["code"] for error in found["errors"]] == ["missing"]


def test_bytes_that_are_no_text_are_malformed(alice: Person) -> None:
    """A body that is not UTF-8 is refused before anything looks at it."""
    answer = alice.http.post(
        "/estimates", content=b"\xff\xfe\x00", headers={"content-type": "application/octet-stream"}
    )

    problem(answer, 400, "malformed_request")


@pytest.mark.parametrize("path", ["/generations", "/checkout", "/webhooks/babysea"])
def test_a_body_over_the_limit_is_too_large(alice: Person, path: str) -> None:
    """One byte over 100 KB is refused; the limit itself is not what is wrong with a request."""
    over, on = (
        alice.http.post(
            path,
            content=b'{"prompt":"' + b"x" * (size - 13) + b'"}',
            headers={"content-type": "application/json", "idempotency-key": "k"},
        )
        for size in (102_401, 102_400)
    )

    problem(over, 413, "payload_too_large")
    assert on.status_code != 413


def test_a_flood_is_stopped_by_the_gateway(alice: Person) -> None:
    """More than the gateway takes does not reach a function."""
    answer = alice.http.post("/estimates", content=b"x" * (10 * 1024 * 1024 + 1))

    assert answer.status_code == 413


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "cursor=nonsense",
        "cursor=" + "x" * 201,
        "limit=1&cursor=eyJhIjoxfQ",
    ],
)
@pytest.mark.parametrize("path", ["/generations", "/account/ledger"])
def test_a_query_that_makes_no_sense_is_refused(alice: Person, path: str, query: str) -> None:
    """Never a page of something else, never an error of ours."""
    problem(alice.http.get(f"{path}?{query}"), 422, "invalid_request")


def test_an_unknown_state_is_refused(alice: Person) -> None:
    """The library filters by the states there are."""
    problem(alice.http.get("/generations?status=lost"), 422, "invalid_request")


@pytest.mark.parametrize("path", ["/generations", "/account/ledger"])
def test_a_query_with_a_nul_cannot_be_read(alice: Person, path: str) -> None:
    """What SQL cannot hold is refused at the door."""
    problem(alice.http.get(f"{path}?cursor=%00"), 400, "malformed_request")


@pytest.mark.parametrize(
    "body",
    [
        {"type": "image/svg+xml", "size": 10},
        {"type": "text/html", "size": 10},
        {"type": "image/png", "size": 0},
        {"type": "image/png", "size": 10_485_761},
        {"type": "image/png", "size": "big"},
        {"type": "image/png", "size": 10, "path": "../../x"},
    ],
    ids=json.dumps,
)
def test_an_upload_that_is_not_allowed_is_refused(alice: Person, body: dict[str, Any]) -> None:
    """Only pictures, only up to the limit, and the place is not the user's to choose."""
    problem(alice.http.post("/uploads", json=body), 422, "invalid_request")


def test_a_browser_of_the_frontend_may_ask(world: World) -> None:
    """The preflight names methods and headers; another origin is named nowhere."""
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "x"}

    ours = world.http.options("/generations", headers={"origin": FRONTEND, **ask})
    theirs = world.http.options("/generations", headers={"origin": "https://evil.example", **ask})
    errors = world.http.get("/account", headers={"origin": FRONTEND})

    assert ours.status_code == 204
    assert ours.headers["access-control-allow-origin"] == FRONTEND
    assert "idempotency-key" in ours.headers["access-control-allow-headers"]
    assert "authorization" in ours.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in theirs.headers
    assert errors.headers["access-control-allow-origin"] == FRONTEND, "errors can be read too"
    assert "retry-after" in errors.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nowhere"),
        ("DELETE", "/account"),
        ("GET", "/webhooks/stripe"),
        ("POST", "/_control/faults"),
        ("GET", "/generations/x/y"),
    ],
)
def test_an_unknown_route_is_not_found(alice: Person, method: str, path: str) -> None:
    """The gateway answers by itself; no function is asked."""
    answer = alice.http.request(method, path)

    assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})


@pytest.mark.parametrize("field", ["success_path", "cancel_path"])
@pytest.mark.parametrize(
    "path",
    [
        "",
        "account",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "https:evil.example",
        "javascript:alert(1)",
        "/ok\r\nlocation: https://evil.example",
        "/\t/evil.example",
        "/ok#fragment",
        "/ {CHECKOUT_SESSION_ID}",
        "@evil.example",
        ".evil.example",
        ":80@evil.example",
        "/ü",
        "/" + "x" * 501,
    ],
)
def test_nobody_is_led_elsewhere_after_paying(alice: Person, field: str, path: str) -> None:
    """Only a path of the frontend can be come back to."""
    answer = alice.http.post("/checkout", json={"pack_id": "starter", field: path})

    found = problem(answer, 422, "invalid_request")
    assert [error["field"] for error in found["errors"]] == [field]


@pytest.mark.parametrize(
    "path", ["/", "/a/b?c=d&e=%2F%2Fevil.example", "/@evil.example", "/a//evil.example", "/%2f/x"]
)
def test_a_path_stays_at_the_frontend(world: World, alice: Person, path: str) -> None:
    """Whatever path is accepted, Stripe is told the frontend's host and no other."""
    body = {"pack_id": "starter", "success_path": path, "cancel_path": path}
    answer = alice.http.post("/checkout", json=body)

    assert answer.status_code == 201
    session = world.stack.stripe.state.get("checkout.session", answer.json()["session_id"])
    for url in (session["success_url"], session["cancel_url"]):
        parts = urlsplit(url)
        assert (f"{parts.scheme}://{parts.netloc}", parts.username) == (FRONTEND, None)
        assert url.startswith(f"{FRONTEND}{path}")


def test_an_unknown_pack_is_refused(alice: Person) -> None:
    """There is nothing to buy but the catalogue, at its price."""
    found = problem(alice.http.post("/checkout", json={"pack_id": "free"}), 422, "invalid_request")
    assert [error["field"] for error in found["errors"]] == ["pack_id"]
    cheaper = {"pack_id": "starter", "amount_minor": 1}
    problem(alice.http.post("/checkout", json=cheaper), 422, "invalid_request")


def test_the_database_away_is_said_in_one_word(world: World, alice: Person) -> None:
    """Whoever asks meanwhile gets 503 unavailable with Retry-After, and afterwards an answer."""
    with world.database_away():
        for path in ("/account", "/account/ledger", "/generations"):
            answer = alice.http.get(path)
            problem(answer, 503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
        problem(alice.ask(), 503, "unavailable")

    assert alice.credits() == ("10.000", "0.000", "0.000")
