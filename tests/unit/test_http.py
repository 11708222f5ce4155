import base64
import json
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import UUID

import pytest
from aws_lambda_powertools.event_handler.openapi.params import Body, Header, Query
from pydantic import BaseModel, Field, SecretStr

from holdfast.auth import AuthenticatedUser, TokenVerifier
from holdfast.config import Settings
from holdfast.errors import (
    ConfigurationError,
    FieldError,
    InvalidAmountError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
)
from holdfast.http import (
    BODY_BYTES_MAX,
    create_app,
    current_user,
    handler,
    header,
    id_or_not_found,
    raw_body,
)

USER = UUID("33333333-3333-4333-8333-333333333333")
SETTINGS = Settings(stage="test", database_url=SecretStr("postgresql://u@localhost/app"))
CONTEXT: Any = SimpleNamespace(
    function_name="f",
    memory_limit_in_mb=128,
    invoked_function_arn="arn:aws:lambda:eu-central-1:123456789012:function:f",
    aws_request_id="11111111-1111-4111-8111-111111111111",
    tenant_id=None,
)


class Order(BaseModel):
    """What a test route takes."""

    prompt: Annotated[str, Field(min_length=1)]
    count: Annotated[int, Field(ge=1, le=4)] = 1


class Receipt(BaseModel):
    """What a test route gives."""

    prompt: str
    count: int


class KnownTokens(TokenVerifier):
    """Takes one token for the user's."""

    def __init__(self) -> None:
        """Need no project."""

    def verify(self, authorization: str | None) -> AuthenticatedUser:
        """Return the user for the one good header."""
        if authorization != "Bearer good":
            raise UnauthenticatedError("A valid access token is required.")
        return AuthenticatedUser(USER)


def event(method: str, path: str, body: str | bytes | None = None, **more: Any) -> dict[str, Any]:
    """Return a request as API Gateway's payload format 2.0 has it."""
    query = more.pop("query", "")
    is_binary = isinstance(body, bytes)
    return {
        "version": "2.0",
        "routeKey": f"{method} {path}",
        "rawPath": path,
        "rawQueryString": query,
        "queryStringParameters": dict(pair.split("=") for pair in query.split("&") if pair) or None,
        "headers": {"content-type": "application/json", **more.pop("headers", {})},
        "requestContext": {
            "http": {"method": method, "path": path, "sourceIp": "192.0.2.1"},
            "requestId": "req-1",
            "stage": "$default",
        },
        "body": base64.b64encode(body).decode() if isinstance(body, bytes) else body,
        "isBase64Encoded": is_binary,
        **more,
    }


@pytest.fixture(name="serve", scope="module")
def _serve() -> Any:
    app = create_app()

    @app.post("/orders", status_code=201)
    def order(
        order: Annotated[Order, Body()],
        key: Annotated[str, Header(alias="idempotency-key", min_length=3)],
    ) -> Receipt:
        return Receipt(prompt=order.prompt, count=order.count)

    @app.get("/orders")
    def orders(limit: Annotated[int, Query(ge=1, le=50)] = 10) -> dict[str, int]:
        return {"limit": limit}

    @app.get("/wrong-type")
    def wrong_type() -> Receipt:
        return {"prompt": "a lighthouse"}  # type: ignore[return-value]

    errors: dict[str, Exception] = {
        "limited": RateLimitedError("Too many.", retry_after=7),
        "away": UnavailableError(reason="redis at 10.0.0.1", retry_after=5),
        "unset": ConfigurationError("STRIPE_API_KEY is missing"),
        "misuse": InvalidAmountError(reason="HF001: amount"),
        "fields": InvalidRequestError(
            "No.", fields=[FieldError("ratio", "not_allowed", "One of 1:1.")]
        ),
        "bug": ZeroDivisionError("secret detail"),
        "key": KeyError("secret detail"),
    }

    @app.get("/raise/<name>")
    def fail(name: str) -> dict[str, str]:
        raise errors[name]

    function = handler(app, SETTINGS)
    return lambda *args, **more: function(event(*args, **more), CONTEXT)


def problem(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the problem of an error answer after checking what every one has."""
    body: dict[str, Any] = json.loads(answer["body"])
    headers = {name.lower(): value for name, value in answer["headers"].items()}
    assert headers["content-type"] == "application/problem+json"
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert body["status"] == answer["statusCode"]
    assert body["type"] == f"urn:holdfast:problem:{body['code']}"
    assert body["request_id"] == "req-1"
    assert body["title"]
    return body


def test_a_good_request_is_answered(serve: Any) -> None:
    """A valid request reaches its route, and the answer must not be cached or sniffed."""
    answer = serve(
        "POST", "/orders", '{"prompt":"a lamp","count":2}', headers={"idempotency-key": "abc"}
    )

    assert answer["statusCode"] == 201
    assert json.loads(answer["body"]) == {"prompt": "a lamp", "count": 2}
    assert answer["headers"]["cache-control"] == "no-store"
    assert answer["headers"]["x-content-type-options"] == "nosniff"


def test_a_base64_body_is_read_like_any_other(serve: Any) -> None:
    """The gateway may deliver the body as base64."""
    answer = serve("POST", "/orders", '{"prompt":"é"}'.encode(), headers={"idempotency-key": "abc"})

    assert json.loads(answer["body"])["prompt"] == "é"


def test_every_wrong_field_is_named(serve: Any) -> None:
    """An invalid request is 422 with one entry a field, without the input."""
    answer = serve("POST", "/orders", '{"prompt":"","count":9}', headers={"idempotency-key": "x"})

    found = problem(answer)
    assert (found["status"], found["code"]) == (422, "invalid_request")
    assert {(item["field"], item["code"]) for item in found["errors"]} == {
        ("prompt", "string_too_short"),
        ("count", "less_than_equal"),
        ("idempotency-key", "string_too_short"),
    }


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ("{", {}),
        ("{'a': 1}", {}),
        ('{"prompt": NaN}', {}),
        ('{"prompt": "\\u0000"}', {}),
        ('{"prompt": "\\ud800"}', {}),
        ('{"\\u0000": 1}', {}),
        ('{"n": ' + "9" * 5000 + "}", {}),
        ("[" * 50_000, {}),
        (b"\xff\xfe", {}),
        (b'{"prompt": "\xe9"}', {}),
        ("prompt=1", {"content-type": "text/plain"}),
        ("prompt=1", {"content-type": "application/x-www-form-urlencoded"}),
        ('{"prompt":"a"}', {"content-type": "Multipart/Form-Data"}),
    ],
)
def test_what_cannot_be_read_is_malformed(serve: Any, body: str | bytes, headers: Any) -> None:
    """Broken, exotic or undecodable bodies are 400, never 500."""
    answer = serve("POST", "/orders", body, headers={"idempotency-key": "abc", **headers})

    assert (answer["statusCode"], problem(answer)["code"]) == (400, "malformed_request")


def test_an_undecodable_base64_body_is_malformed(serve: Any) -> None:
    """A body that claims to be base64 and is not is 400."""
    answer = serve("POST", "/orders", "***", isBase64Encoded=True)

    assert problem(answer)["code"] == "malformed_request"


@pytest.mark.parametrize("more", [{"query": "limit=%00"}, {"rawPath": "/orders\0"}])
def test_a_nul_in_the_url_is_malformed(serve: Any, more: Any) -> None:
    """A NUL cannot reach SQL by way of the URL."""
    assert problem(serve("GET", "/orders", **more))["code"] == "malformed_request"


def test_a_missing_body_is_an_invalid_request(serve: Any) -> None:
    """No body where one is needed is 422."""
    answer = serve("POST", "/orders", headers={"idempotency-key": "abc"})

    assert problem(answer)["code"] == "invalid_request"


@pytest.mark.parametrize("body", ["x" * (BODY_BYTES_MAX + 1), b"x" * (BODY_BYTES_MAX + 1)])
def test_a_large_body_is_refused_unread(serve: Any, body: str | bytes) -> None:
    """One byte over the limit, plain or base64, is 413."""
    assert problem(serve("POST", "/orders", body))["code"] == "payload_too_large"


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("PUT", "/orders")])
def test_unknown_routes_are_not_found(serve: Any, method: str, path: str) -> None:
    """A route or method that does not exist is a 404 problem like any other."""
    assert problem(serve(method, path))["code"] == "not_found"


def test_query_errors_name_the_parameter(serve: Any) -> None:
    """A query parameter is named by itself."""
    found = problem(serve("GET", "/orders", query="limit=900"))

    assert [item["field"] for item in found["errors"]] == ["limit"]


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("limited", 429, "rate_limited"),
        ("away", 503, "unavailable"),
        ("unset", 503, "unavailable"),
        ("misuse", 500, "internal_error"),
        ("fields", 422, "invalid_request"),
        ("bug", 500, "internal_error"),
        ("key", 500, "internal_error"),
    ],
)
def test_errors_answer_with_their_code_and_no_inner_detail(
    serve: Any, name: str, status: int, code: str
) -> None:
    """What is raised in a route becomes its problem; reasons and bugs are not told."""
    answer = serve("GET", f"/raise/{name}")

    found = problem(answer)
    assert (found["status"], found["code"]) == (status, code)
    assert not any(text in answer["body"] for text in ("secret", "10.0.0.1", "STRIPE", "HF001"))


def test_retry_after_is_a_header(serve: Any) -> None:
    """A refusal that knows when to come back says so in seconds."""
    assert serve("GET", "/raise/limited")["headers"]["retry-after"] == "7"


def test_own_field_errors_look_like_validation_errors(serve: Any) -> None:
    """A field refused by our code is listed in the same shape."""
    assert problem(serve("GET", "/raise/fields"))["errors"] == [
        {"field": "ratio", "code": "not_allowed", "message": "One of 1:1."}
    ]


def test_an_answer_that_breaks_its_type_is_our_fault(serve: Any, capsys: Any) -> None:
    """A route that returns something else than it declares is a 500 without the data."""
    answer = serve("GET", "/wrong-type")

    assert problem(answer)["code"] == "internal_error"
    assert "lighthouse" not in answer["body"]
    assert "lighthouse" not in capsys.readouterr().out


@pytest.fixture(name="guarded")
def _guarded() -> Any:
    app = create_app()

    @app.get("/me")
    def me() -> dict[str, str]:
        return {"id": str(current_user(app).user_id)}

    @app.post("/orders")
    def order(order: Annotated[Order, Body()]) -> dict[str, str]:
        return {"id": str(current_user(app).user_id)}

    @app.get("/catalog")
    def catalog() -> dict[str, bool]:
        return {"known": "user" in app.context}

    function = handler(app, SETTINGS, verifier=KnownTokens(), public=frozenset({"GET /catalog"}))
    return lambda *args, **more: function(event(*args, **more), CONTEXT)


def test_the_caller_is_authenticated_by_the_header(guarded: Any) -> None:
    """A good token gives the user; without one the answer is 401 and asks for a bearer token."""
    good = guarded("GET", "/me", headers={"Authorization": "Bearer good"})
    bad = guarded("GET", "/me")

    assert json.loads(good["body"]) == {"id": str(USER)}
    assert problem(bad)["code"] == "unauthenticated"
    assert bad["headers"]["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/orders", "{"),
        ("POST", "/orders", "x" * (BODY_BYTES_MAX + 1)),
        ("GET", "/nowhere", None),
    ],
)
def test_strangers_learn_nothing(guarded: Any, method: str, path: str, body: str | None) -> None:
    """Without a token every request is 401, before its route or its body is looked at."""
    assert problem(guarded(method, path, body))["code"] == "unauthenticated"


def test_nobody_stays_signed_in_for_the_next_request(guarded: Any) -> None:
    """A user whose request was refused early is unknown to the next, public, request."""
    refused = guarded(
        "POST", "/orders", "x" * (BODY_BYTES_MAX + 1), headers={"authorization": "Bearer good"}
    )
    public = guarded("GET", "/catalog")

    assert refused["statusCode"] == 413
    assert json.loads(public["body"]) == {"known": False}


def test_a_path_id_that_is_no_id_is_not_found() -> None:
    """A malformed id in a path names nothing."""
    assert id_or_not_found(str(USER)) == USER
    with pytest.raises(NotFoundError):
        id_or_not_found("1' or 1=1")


def test_a_webhook_reads_its_raw_bytes() -> None:
    """Without validation a route sees exactly the bytes that were sent."""
    app = create_app(validation=False)
    seen = []

    @app.post("/hook")
    def hook() -> dict[str, str]:
        seen.append(raw_body(app.current_event.raw_event))
        return {}

    function = handler(app, SETTINGS)
    for body in (b'{ "a":  1}\n', '{ "a":  1}\n'):
        assert function(event("POST", "/hook", body), CONTEXT)["statusCode"] == 200

    assert seen == [b'{ "a":  1}\n'] * 2


def test_an_answer_that_cannot_be_serialised_is_a_problem_as_well() -> None:
    """A failure outside the route still answers with a code and an id."""
    app = create_app(validation=False)

    @app.get("/odd")
    def odd() -> dict[str, Any]:
        return {"a": object()}

    answer = handler(app, SETTINGS)(event("GET", "/odd"), CONTEXT)

    assert problem(answer)["code"] == "internal_error"


def test_headers_are_found_in_any_case() -> None:
    """Header names have no case; an absent one is None."""
    assert header({"headers": {"X-BabySea-Signature": "s"}}, "x-babysea-signature") == "s"
    assert header({"headers": {"a": "s"}}, "A") == "s"
    assert header({"headers": None}, "a") is None
    assert raw_body({"body": None}) == b""
