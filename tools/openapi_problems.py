"""The error answers of docs/openapi.json: a schema for each code, and for each route what `tools.refusals` reads."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterable
from http import HTTPStatus
from itertools import groupby
from typing import Any

from holdfast.errors import HoldfastError
from holdfast.http import INVALID_FIELDS, PROBLEM_JSON
from tools.openapi_examples import filled, word
from tools.refusals import Refusal, Refusals

REQUEST_ID = "JKJaXmPLvHcESHA="

_FIELDS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["field", "code", "message"],
        "properties": {
            "field": {"type": "string", "description": "The path of the field, joined with dots."},
            "code": {"type": "string"},
            "message": {"type": "string"},
        },
    },
}
_WAIT = {
    "description": "Seconds after which the same request is welcome again.",
    "schema": {"type": "integer", "minimum": 0},
    "example": 2,
}
_CHALLENGE = {"description": "`Bearer`.", "schema": {"type": "string"}, "example": "Bearer"}
_DESCRIPTIONS = {HoldfastError: "A bug on our side; `request_id` is what to ask us about."}
_WAITED_FOR = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


def answers(found: Refusals, field: dict[str, str]) -> dict[str, Any]:
    """Return the error answers of a route by status; `field` is what may be wrong with a field of it."""
    ordered = sorted(found, key=_order)
    return {
        str(int(status)): _answer(list(group), field)
        for status, group in groupby(ordered, key=lambda refusal: refusal.error.status)
    }


def schemas(found: Iterable[Refusal]) -> dict[str, Any]:
    """Return a schema for each code, with the members that are always sent as required."""
    ordered = sorted(found, key=lambda refusal: refusal.error.code)
    return {
        _name(code): _schema(list(group))
        for code, group in groupby(ordered, key=lambda refusal: refusal.error.code)
    }


def shared(paths: dict[str, Any]) -> dict[str, Any]:
    """Give the error answers that several routes have in common a name, and refer to them; return them by name."""
    operations = [one for methods in paths.values() for one in methods.values()]
    texts = Counter(
        json.dumps(answer, sort_keys=True)
        for operation in operations
        for status, answer in operation["responses"].items()
        if status >= "400"
    )
    found: dict[str, str] = {}
    for text, times in texts.most_common():
        name = _answer_name(json.loads(text))
        if times > 1 and name not in found:
            found[name] = text
    for operation in operations:
        for status, answer in operation["responses"].items():
            name = _answer_name(answer)
            if status >= "400" and found.get(name) == json.dumps(answer, sort_keys=True):
                operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    return {name: json.loads(text) for name, text in found.items()}


def _answer_name(answer: dict[str, Any]) -> str:
    """Return the codes that it may have, as one word."""
    return "Or".join(_camel(code) for code in re.findall(r"`(\w+)`", answer["description"]))


def _order(refusal: Refusal) -> tuple[int, str, bool, bool, str]:
    """By status and code; within a code the most telling one first."""
    error = refusal.error
    is_general = refusal.detail == INVALID_FIELDS
    told = filled(refusal.detail, _name(error.code)) if refusal.detail else None
    return error.status, error.code, not is_general, told is None, told or ""


def _name(code: str) -> str:
    return f"{_camel(code)}Problem"


def _camel(code: str) -> str:
    return "".join(part.title() for part in code.split("_"))


def _title(refusals: list[Refusal]) -> type[HoldfastError]:
    """Return the class that gave the code its name."""
    error = refusals[0].error
    return next(kind for kind in reversed(error.__mro__) if getattr(kind, "code", "") == error.code)


def _schema(refusals: list[Refusal]) -> dict[str, Any]:
    error = _title(refusals)
    always = frozenset.intersection(*(refusal.members for refusal in refusals))
    members = frozenset.union(*(refusal.members for refusal in refusals))
    properties: dict[str, Any] = {
        "type": {"const": f"urn:holdfast:problem:{error.code}", "type": "string"},
        "title": {"type": "string"},
        "status": {"const": int(error.status), "type": "integer"},
        "code": {"const": error.code, "type": "string"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        **{member: {"type": "string"} for member in members},
    }
    if any(refusal.fields for refusal in refusals):
        properties["errors"] = _FIELDS
    return {
        "type": "object",
        "title": error.title,
        "description": _DESCRIPTIONS.get(error, inspect.getdoc(error)),
        "required": ["type", "title", "status", "code", *sorted(always)],
        "properties": properties,
    }


def _answer(refusals: list[Refusal], field: dict[str, str]) -> dict[str, Any]:
    by_code = {
        code: list(group)
        for code, group in groupby(refusals, key=lambda refusal: refusal.error.code)
    }
    references = [{"$ref": f"#/components/schemas/{_name(code)}"} for code in by_code]
    status = refusals[0].error.status
    answer: dict[str, Any] = {
        "description": ", ".join(f"`{code}`" for code in by_code),
        "content": {
            PROBLEM_JSON: {
                "schema": references[0] if len(references) == 1 else {"oneOf": references},
                "examples": {
                    code: {"value": _example(group[0], _title(group), field)}
                    for code, group in by_code.items()
                },
            }
        },
    }
    if status in _WAITED_FOR and any(refusal.waits for refusal in refusals):
        answer["headers"] = {"Retry-After": _WAIT}
    if status == HTTPStatus.UNAUTHORIZED:
        answer["headers"] = {"WWW-Authenticate": _CHALLENGE}
    return answer


def _example(refusal: Refusal, error: type[HoldfastError], field: dict[str, str]) -> dict[str, Any]:
    problem: dict[str, Any] = {
        "type": f"urn:holdfast:problem:{error.code}",
        "title": error.title,
        "status": int(error.status),
    }
    owner = _name(error.code)
    if refusal.detail and (told := filled(refusal.detail, owner)):
        problem["detail"] = told
    problem |= {"code": error.code, "request_id": REQUEST_ID}
    problem |= {member: word(member, owner) or member for member in sorted(refusal.members)}
    if refusal.fields and field:
        problem["errors"] = [field]
    return problem
