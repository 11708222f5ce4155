import base64
import json
from typing import Any

import pytest

from local.payload import (
    HttpRequest,
    build_event,
    cors_headers,
    is_text,
    match_path,
    read_response,
    with_cors,
)
from local.template import Cors


def event_of(
    target: str = "/", body: bytes = b"", headers: list[tuple[str, str]] | None = None
) -> dict[str, Any]:
    """Return the event of a POST request."""
    return build_event(HttpRequest("POST", target, headers or [], body), "POST /", {}, "HttpApi")


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/items", "/items", {}),
        ("/items", "/items/", None),
        ("/items", "/item", None),
        ("/", "/", {}),
        ("/items/{id}", "/items/7", {"id": "7"}),
        ("/items/{id}", "/items/", None),
        ("/items/{id}", "/items/7/x", None),
        ("/items/{id}", "/items/a%20b%C3%A9", {"id": "a bé"}),
        ("/items/{id}", "/items/a%2Fb", {"id": "a/b"}),
        ("/items/{id}/cancel", "/items/7/cancel", {"id": "7"}),
        ("/files/{path+}", "/files/a/b", {"path": "a/b"}),
        ("/files/{path+}", "/files/", None),
        ("/caf%C3%A9", "/café", None),
        ("/café", "/caf%C3%A9", {}),
    ],
)
def test_paths(pattern: str, path: str, expected: dict[str, str] | None) -> None:
    """A route fits whole segments, and its parameters arrive decoded."""
    assert expected == match_path(pattern, path)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("text/plain", True),
        ("application/xml", True),
        ("application/javascript", True),
        ("application/problem+json", False),
        ("application/x-www-form-urlencoded", False),
        ("image/png", False),
        ("", False),
    ],
)
def test_what_counts_as_text(content_type: str, *, expected: bool) -> None:
    """Only the four kinds measured on AWS arrive as text; a missing type is base64 too."""
    assert expected is is_text(content_type)


def test_text_bodies_arrive_as_they_are() -> None:
    """A JSON body is the very text that was sent, spaces and umlauts included."""
    body = '{ "name" : "Käse" }'
    event = event_of(body=body.encode(), headers=[("Content-Type", "application/json")])

    assert body == event["body"]
    assert event["isBase64Encoded"] is False


def test_other_bodies_arrive_in_base64() -> None:
    """Bytes survive: a body of any other type is base64."""
    event = event_of(body=b"\x00\xff", headers=[("content-type", "image/png")])

    assert event["body"] == base64.b64encode(b"\x00\xff").decode()
    assert event["isBase64Encoded"] is True


def test_an_empty_body_is_absent() -> None:
    """A request without a body has no `body` key at all."""
    assert "body" not in event_of()


def test_headers_are_lower_case_and_joined() -> None:
    """Header names are lower-case, repeated ones joined with commas, cookies a list of their own."""
    event = event_of(
        headers=[
            ("X-Thing", "a"),
            ("x-thing", "b"),
            ("Cookie", "one=1; two=2"),
            ("Connection", "keep-alive"),
        ]
    )

    assert event["headers"]["x-thing"] == "a,b"
    assert event["cookies"] == ["one=1", "two=2"]
    assert not {"cookie", "connection", "Cookie"} & event["headers"].keys()


def test_query_parameters() -> None:
    """Query parameters are decoded and repeated ones joined; the raw query stays as sent."""
    event = event_of("/a%20b?x=1&x=2&y=%C3%A9&empty=")

    assert event["queryStringParameters"] == {"x": "1,2", "y": "é", "empty": ""}
    assert event["rawQueryString"] == "x=1&x=2&y=%C3%A9&empty="
    assert event["rawPath"] == "/a b"
    assert "pathParameters" not in event


def response_of(answer: Any) -> tuple[int, dict[str, str], bytes]:
    """Return the response to a function's answer as status, headers and body."""
    response = read_response(json.dumps(answer).encode())
    return response.status, dict(response.headers), response.body


def test_an_answer_without_status_is_the_body() -> None:
    """What is not a response object is answered as JSON with 200."""
    expected = (200, {"content-type": "application/json"}, b'{"a": 1}')
    assert expected == response_of({"a": 1})
    assert response_of("plain")[2] == b"plain"
    assert response_of(None)[2] == b"null"


def test_a_whole_answer() -> None:
    """Status, headers, cookies and a binary body reach the client; the connection's headers are the gateway's."""
    response = read_response(
        json.dumps(
            {
                "statusCode": "201",
                "headers": {"Content-Type": "image/png", "X-Flag": True, "Content-Length": 99},
                "cookies": ["a=1", "b=2"],
                "body": base64.b64encode(b"\x00\xff").decode(),
                "isBase64Encoded": True,
            }
        ).encode()
    )

    assert response.status == 201
    assert response.body == b"\x00\xff"
    assert response.headers == [
        ("content-type", "image/png"),
        ("x-flag", "true"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        b"no json",
        b'{"statusCode": "many"}',
        b'{"statusCode": 99}',
        b'{"statusCode": 200, "body": {}}',
        b'{"statusCode": 200, "body": "a", "isBase64Encoded": true}',
        b'{"statusCode": 200, "headers": {"x": "a\\nb"}}',
        '{"statusCode": 200, "headers": {"x": "→"}}'.encode(),
    ],
)
def test_answers_out_of_format_are_refused(answer: bytes) -> None:
    """An answer that API Gateway does not understand is an error, which clients see as 500."""
    with pytest.raises(ValueError, match=r".+"):
        read_response(answer)


CORS = Cors(
    origins=("https://shop.test", "https://*.preview.test"),
    methods=("GET", "POST"),
    headers=("authorization",),
    exposed_headers=("x-id",),
    max_age=600,
)


def test_preflight_headers() -> None:
    """A preflight from an allowed origin is told what it may do; from any other, nothing."""
    headers = dict(cors_headers(CORS, "https://a.preview.test", is_preflight=True))

    assert headers == {
        "access-control-allow-origin": "https://a.preview.test",
        "access-control-allow-methods": "GET,POST",
        "access-control-allow-headers": "authorization",
        "access-control-max-age": "600",
    }
    assert cors_headers(CORS, "https://evil.test", is_preflight=True) == []


def test_cors_of_the_api_overrides_the_functions() -> None:
    """With a CORS configuration, what the function says about CORS is dropped."""
    response = read_response(
        b'{"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*", "x-id": "1"}}'
    )
    names = dict(with_cors(response, CORS, "https://shop.test").headers)

    assert names["access-control-allow-origin"] == "https://shop.test"
    assert names["access-control-expose-headers"] == "x-id"
    assert "access-control-allow-origin" not in dict(with_cors(response, CORS, "").headers)
    assert dict(with_cors(response, None, "").headers)["access-control-allow-origin"] == "*"
