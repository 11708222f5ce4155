"""
The words every other module shares.

One spelling of each state and source in Python; a test compares them with the values the SQL knows.
"""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import Field

CREDIT_DECIMALS = 3
"""A credit is spendable in thousandths (`numeric(14,3)` in SQL)."""

ItemId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
"""The name of a pack, a plan, a preset: what the files beside the code call it."""

_SMALLEST = Decimal(1).scaleb(-CREDIT_DECIMALS)
_PLAIN_NUMBER = re.compile(r"-?[0-9]{1,11}(\.[0-9]{1,20})?", re.ASCII)
_LIMIT = Decimal(10) ** 11


class GenerationStatus(StrEnum):
    """Where a generation stands; the last three are final."""

    QUEUED = "queued"
    PROCESSING = "processing"
    STORING = "storing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        """Say whether no further state can follow."""
        return self in (self.SUCCEEDED, self.FAILED, self.CANCELED)


class ProviderStatus(StrEnum):
    """What the provider says of a generation; the last three are final."""

    PENDING = "pending"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class MediaKind(StrEnum):
    """What a model makes."""

    IMAGE = "image"
    VIDEO = "video"


class GrantSource(StrEnum):
    """Where granted credits come from."""

    PACK = "pack"
    PLAN = "plan"
    WELCOME = "welcome"
    ADJUSTMENT = "adjustment"
    RESTORED = "restored"


class EntryType(StrEnum):
    """Why a ledger entry was written."""

    GRANT = "grant"
    RESERVE = "reserve"
    CHARGE = "charge"
    REFUND = "refund"
    EXPIRE = "expire"
    CLAWBACK = "clawback"
    RESTORE = "restore"


def credits(value: object) -> Decimal:  # noqa: A001 - the domain's word; nobody wants the site builtin
    """
    Return `value` as an exact amount of credits with three decimals.

    Takes `Decimal`, `int` and plain decimal text ("12.5"). Trailing zeros are not a fourth decimal:
    they change nothing. Raises `ValueError` for everything else: floats (they are not exact), NaN,
    infinities, exponents, more than three decimals, amounts the SQL column cannot hold.
    """
    if isinstance(value, Decimal):
        amount = value
    elif _is_whole(value) or _is_plain_text(value):
        amount = Decimal(str(value))
    else:
        message = "credits are an exact decimal number, for example 12.500"
        raise ValueError(message)
    if not amount.is_finite() or not -_LIMIT < amount < _LIMIT:
        message = f"credits lie between -{_LIMIT:f} and {_LIMIT:f}"
        raise ValueError(message)
    exact = amount.quantize(_SMALLEST)
    if exact != amount:
        message = f"credits have at most {CREDIT_DECIMALS} decimals"
        raise ValueError(message)
    return exact + 0  # a negative zero becomes zero


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_plain_text(value: object) -> bool:
    return isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value) is not None
