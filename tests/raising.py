"""Expecting an error by its SQLSTATE, as the product maps it: never by message text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest


@contextlib.contextmanager
def raises_sqlstate(sqlstate: str) -> Iterator[None]:
    """Fail unless the block raises a database error of exactly this SQLSTATE."""
    with pytest.raises(psycopg.Error) as caught:
        yield
    assert caught.value.sqlstate == sqlstate, caught.value
