"""What docs/openapi.json promises, held against every answer that an end-to-end test gets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
OF_THE_GATEWAY = frozenset({413, 429, 500, 503})
"""Statuses that the gateway may answer by itself, as `{"message": …}`."""


class Contract:
    """The document; `check` fails for an answer that it does not allow."""

    def __init__(self) -> None:
        self._document: dict[str, Any] = json.loads(DOCUMENT.read_text())
        self._routes = [
            (re.compile(re.sub(r"\{.*?\}", "[^/]+", path)), path)
            for path in self._document["paths"]
        ]
        self._validator = cache(self._make_validator)

    def check(self, response: httpx.Response) -> None:
        """Check status, content type, headers and body; routes that are not for clients are let through."""
        request = response.request
        found = self._route(request.method.lower(), request.url.raw_path.decode().partition("?")[0])
        if found is None:
            return
        method, path = found
        asked = f"{method.upper()} {path}"
        status = str(response.status_code)
        body = json.loads(response.read() or b"null")
        if response.status_code in OF_THE_GATEWAY and isinstance(body, dict) and "message" in body:
            return
        answers = self._document["paths"][path][method]["responses"]
        assert status in answers, f"{asked} answers {status}, which is not documented: {body}"
        answer = self._resolved(answers[status])
        for name in ("retry-after", "www-authenticate"):
            known = {header.lower() for header in answer.get("headers", {})}
            assert name not in response.headers or name in known, f"{asked} {status} sends {name}"
        content = answer.get("content")
        if content is None:
            assert body is None, f"{asked} {status} has a body"
            return
        kind = response.headers["content-type"].partition(";")[0]
        assert kind in content, f"{asked} {status} is of type {kind}"
        wrong = list(_explained(self._validator(path, method, status, kind).iter_errors(body)))
        assert not wrong, f"{asked} {status} is not as documented: {wrong} in {body}"

    def _route(self, method: str, path: str) -> tuple[str, str] | None:
        for pattern, known in self._routes:
            if pattern.fullmatch(path) and method in self._document["paths"][known]:
                return method, known
        return None

    def _resolved(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in answer:
            return answer
        named = answer["$ref"].rsplit("/", 1)[1]
        resolved: dict[str, Any] = self._document["components"]["responses"][named]
        return resolved

    def _make_validator(self, path: str, method: str, status: str, kind: str) -> Any:
        answer = self._resolved(self._document["paths"][path][method]["responses"][status])
        schema = answer["content"][kind]["schema"] | {"components": self._document["components"]}
        return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def _explained(errors: Iterator[Any]) -> Iterator[str]:
    for error in errors:
        yield f"{'.'.join(map(str, error.instance_path)) or 'it'}: {error.message}"
