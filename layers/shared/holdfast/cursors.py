"""Cursors of paged answers: opaque to clients, and a clear refusal for anything we did not issue."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from uuid import UUID

from holdfast.errors import FieldError, InvalidRequestError


def encode(created_at: datetime, row_id: UUID) -> str:
    """Return the cursor after the row with this time and id."""
    return base64.urlsafe_b64encode(f"{created_at.isoformat()}|{row_id}".encode()).decode()


def decode(cursor: str | None) -> tuple[datetime, UUID] | None:
    """Return what `encode` was given, None for none; raises `InvalidRequestError`."""
    if cursor is None:
        return None
    try:
        written, _, row_id = base64.urlsafe_b64decode(cursor).decode().partition("|")
        created_at, found_id = datetime.fromisoformat(written), UUID(row_id)
    except (binascii.Error, ValueError):
        raise _refusal() from None
    if created_at.tzinfo is None:
        raise _refusal()
    return created_at, found_id


def encode_id(row_id: int) -> str:
    """Return the cursor after the row with this number."""
    return base64.urlsafe_b64encode(str(row_id).encode()).decode()


def decode_id(cursor: str | None) -> int | None:
    """Return what `encode_id` was given, None for none; raises `InvalidRequestError`."""
    if cursor is None:
        return None
    try:
        number = int(base64.urlsafe_b64decode(cursor).decode())
    except (binascii.Error, ValueError):
        raise _refusal() from None
    if not 0 < number < 2**63:
        raise _refusal()
    return number


def _refusal() -> InvalidRequestError:
    problem = FieldError("cursor", "not_issued_here", "Use the next_cursor of the page before.")
    return InvalidRequestError("The cursor cannot be read.", fields=[problem])
