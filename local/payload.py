"""
API Gateway's payload format 2.0: an HTTP request as the event of a function, and the function's answer as a response.

Pure functions, so that each rule can be tested without a socket. The rules are those measured on AWS (what counts as
text, joined headers, cookies apart); a webhook's signature is right only if they are.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl, unquote

from local.template import ACCOUNT, REGION, Cors

_TEXT_TYPES = ("application/json", "application/javascript", "application/xml")
# The gateway speaks for the connection; a function's word on it is dropped.
_OWN_HEADERS = ("connection", "content-length", "transfer-encoding")

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class HttpRequest:
    """An HTTP request as it came: `target` is path and query, still encoded."""

    method: str
    target: str
    headers: Headers
    body: bytes
    source_ip: str = "127.0.0.1"

    @property
    def path(self) -> str:
        """The path, still encoded."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str:
        """Return the header `name` (lower-case), all its values joined, or an empty string."""
        return ",".join(value for key, value in self.headers if key.lower() == name)


@dataclass(frozen=True)
class HttpResponse:
    """An HTTP response without what the connection adds."""

    status: int
    headers: Headers
    body: bytes = b""


def match_path(pattern: str, path: str) -> dict[str, str] | None:
    """
    Return the decoded path parameters if `path` fits the route `pattern`, else None.

    `{name}` fits one segment, `{name+}` all that is left. Segments are compared one by one, so an encoded slash stays
    inside its parameter.
    """
    parameters: dict[str, str] = {}
    segments = [unquote(segment) for segment in path.split("/")]
    wanted = pattern.split("/")
    for index, part in enumerate(wanted):
        if part.startswith("{") and part.endswith("+}"):
            rest = segments[index:]
            parameters[part[1:-2]] = "/".join(rest)
            return parameters if rest and rest[0] else None
        if index >= len(segments):
            return None
        if part.startswith("{") and part.endswith("}"):
            if not segments[index]:
                return None
            parameters[part[1:-1]] = segments[index]
        elif part != segments[index]:
            return None
    return parameters if len(segments) == len(wanted) else None


def is_text(content_type: str) -> bool:
    """Return whether a body of this type reaches the function as it is; all else, none included, comes in base64."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in _TEXT_TYPES


def build_event(
    request: HttpRequest, route_key: str, parameters: dict[str, str], api_id: str
) -> dict[str, Any]:
    """Return the event a function gets for `request` on the route `route_key`."""
    headers = _joined(request.headers)
    cookies = [part.strip() for part in headers.pop("cookie", "").split(";") if part.strip()]
    content_type = headers.get("content-type", "")
    headers.pop("connection", None)
    now = datetime.now(UTC)
    host = headers.get("host", f"{api_id}.execute-api.{REGION}.amazonaws.com")
    query = request.target.partition("?")[2]
    path = unquote(request.path)
    body: dict[str, Any] = {"isBase64Encoded": False}
    if request.body and is_text(content_type):
        body = {"body": request.body.decode(errors="replace"), "isBase64Encoded": False}
    elif request.body:
        body = {"body": base64.b64encode(request.body).decode(), "isBase64Encoded": True}
    query_parameters = _joined(parse_qsl(query, keep_blank_values=True), lower=False)
    optional = {
        "cookies": cookies,
        "queryStringParameters": query_parameters,
        "pathParameters": parameters,
    }
    return {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": query,
        "headers": {
            **headers,
            "content-length": str(len(request.body)),
            "x-amzn-trace-id": f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}",
            "x-forwarded-for": request.source_ip,
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        **{key: value for key, value in optional.items() if value},
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": api_id,
            "domainName": host,
            "domainPrefix": host.partition(".")[0],
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.source_ip,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id(),
            "routeKey": route_key,
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1000),
        },
        **body,
    }


def read_response(payload: bytes) -> HttpResponse:
    """
    Return the HTTP response a function's answer stands for. Raises `ValueError` for one that API Gateway refuses.

    Without a `statusCode` the whole answer is the body of a 200, as the format allows.
    """
    answer = json.loads(payload or b"null")
    if not isinstance(answer, dict) or "statusCode" not in answer:
        body = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        return HttpResponse(200, [("content-type", "application/json")], body.encode())
    status = int(answer["statusCode"])
    text = answer.get("body")
    if not (text is None or isinstance(text, str)) or not 100 <= status <= 599:
        raise ValueError("not in payload format 2.0")
    data = (text or "").encode()
    if answer.get("isBase64Encoded"):
        try:
            data = base64.b64decode(data)
        except binascii.Error as error:
            raise ValueError("the body is no base64") from error
    headers = {
        str(name).lower(): _header_text(value)
        for name, value in (answer.get("headers") or {}).items()
        if str(name).lower() not in _OWN_HEADERS
    }
    headers.setdefault("content-type", "text/plain;charset=UTF-8")
    cookies = [("set-cookie", _header_text(cookie)) for cookie in answer.get("cookies") or []]
    return HttpResponse(status, [*headers.items(), *cookies], data)


def message(status: int, text: str) -> HttpResponse:
    """Return one of API Gateway's own answers."""
    body = json.dumps({"message": text}).encode()
    return HttpResponse(status, [("content-type", "application/json")], body)


def cors_headers(cors: Cors | None, origin: str, *, is_preflight: bool) -> Headers:
    """Return the CORS headers for a request from `origin`; none when it is not allowed."""
    if cors is None or not origin:
        return []
    if not any(fnmatchcase(origin.lower(), allowed.lower()) for allowed in cors.origins):
        return []
    headers = [("access-control-allow-origin", "*" if "*" in cors.origins else origin)]
    if cors.credentials:
        headers.append(("access-control-allow-credentials", "true"))
    if not is_preflight:
        if cors.exposed_headers:
            headers.append(("access-control-expose-headers", ",".join(cors.exposed_headers)))
        return headers
    headers.append(("access-control-allow-methods", ",".join(cors.methods)))
    headers.append(("access-control-allow-headers", ",".join(cors.headers)))
    if cors.max_age is not None:
        headers.append(("access-control-max-age", str(cors.max_age)))
    return [(name, value) for name, value in headers if value]


def with_cors(response: HttpResponse, cors: Cors | None, origin: str) -> HttpResponse:
    """Return `response` with the API's CORS headers in place of the function's, if the API has a CORS configuration."""
    if cors is None:
        return response
    kept = [pair for pair in response.headers if not pair[0].startswith("access-control-")]
    own = cors_headers(cors, origin, is_preflight=False)
    return HttpResponse(response.status, [*kept, *own], response.body)


def request_id() -> str:
    """Return an id as API Gateway gives each request."""
    return uuid.uuid4().hex[:15] + "="


def _joined(pairs: Iterable[tuple[str, str]], *, lower: bool = True) -> dict[str, str]:
    """Return pairs as a mapping, values of the same name joined with commas."""
    joined: dict[str, str] = {}
    for original, value in pairs:
        name = original.lower() if lower else original
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _header_text(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text.encode("latin-1")
    if "\n" in text or "\r" in text:
        raise ValueError("a header with a line break")
    return text
