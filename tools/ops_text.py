"""How `make ops` writes times, amounts and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import psycopg
from psycopg.rows import DictRow
from rich.table import Table
from rich.text import Text

Database = psycopg.Connection[DictRow]


class RefusedError(Exception):
    """Nothing was done; the message is a sentence for the operator."""


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table of the values; what users wrote in them is text, not markup."""
    result = Table(*names)
    for row in rows:
        result.add_row(*(Text(cell(value)) for value in row))
    return result


def cell(value: object) -> str:
    """Write a value: amounts with 3 decimals, times by their age, nothing as nothing."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:.3f}"
    return ago(value) if isinstance(value, datetime) else str(value)


def ago(at: datetime) -> str:
    """Write how long ago something was."""
    return f"{_span((datetime.now(UTC) - at).total_seconds())} ago"


def until(at: datetime | None) -> str:
    """Write how long a sweep will wait for something."""
    seconds = (at - datetime.now(UTC)).total_seconds() if at else 0
    return f"in {_span(seconds)}" if seconds > 0 else "next sweep"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
