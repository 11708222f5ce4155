"""The JSON bodies Storage takes, checked as its schemas check them."""

from __future__ import annotations

import contextlib
from typing import Any

from local.standins.server import Request
from local.standins.supabase_errors import StorageError
from local.standins.supabase_uploads import checked_key


def read_body(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body; raises `StorageError`."""
    body = None
    with contextlib.suppress(ValueError):
        body = request.json()
    if not isinstance(body, dict):
        raise StorageError.invalid("body must be object")
    return body


def expires_in(body: dict[str, Any]) -> int:
    """Return `expiresIn`, which Python sends as a string and JavaScript as a number."""
    if "expiresIn" not in body:
        raise StorageError.invalid("body must have required property 'expiresIn'")
    try:
        seconds = int(str(body["expiresIn"]))
    except ValueError as error:
        raise StorageError.invalid("body/expiresIn must be integer") from error
    if seconds < 1:
        raise StorageError.invalid("body/expiresIn must be >= 1")
    return seconds


def names_in(body: dict[str, Any], member: str) -> list[str]:
    """Return the object names listed under `member`; raises `StorageError`."""
    names = body.get(member)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise StorageError.invalid(f"body/{member} must be array")
    if not names:
        raise StorageError.invalid(f"body/{member} must NOT have fewer than 1 items")
    return names


def source_and_target(body: dict[str, Any]) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return (bucket, name) of what to move or copy, and of where to; raises `StorageError`."""
    for member in ("bucketId", "sourceKey", "destinationKey"):
        if not isinstance(body.get(member), str):
            raise StorageError.invalid(f"body must have required property '{member}'")
    bucket = body["bucketId"]
    target = body.get("destinationBucket") or bucket
    return (bucket, body["sourceKey"]), (target, checked_key(body["destinationKey"]))
