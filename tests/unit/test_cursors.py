"""Cursors of paged answers."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import cursors
from holdfast.errors import InvalidRequestError


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_a_cursor_gives_back_its_row(created_at: datetime, row_id: UUID) -> None:
    """Time, to the microsecond, and id survive the way through a URL."""
    assert cursors.decode(cursors.encode(created_at, row_id)) == (created_at, row_id)


@given(st.integers(1, 2**63 - 1))
def test_a_number_cursor_gives_back_its_row(row_id: int) -> None:
    """The number survives the way through a URL."""
    assert cursors.decode_id(cursors.encode_id(row_id)) == row_id


def test_no_cursor_means_the_first_page() -> None:
    """Nothing given is nothing skipped."""
    assert cursors.decode(None) is None
    assert cursors.decode_id(None) is None


@pytest.mark.parametrize(
    "text", ["", "x", "e30=", "2026", "é", "LTE=", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5"]
)
def test_what_we_did_not_issue_is_refused(text: str) -> None:
    """A made-up cursor is the client's mistake, with the field named."""
    for decode in (cursors.decode, cursors.decode_id):
        with pytest.raises(InvalidRequestError) as refused:
            decode(text)
        assert [problem.field for problem in refused.value.fields] == ["cursor"]


@given(st.text(max_size=60))
def test_no_text_breaks_the_decoder(text: str) -> None:
    """Any text is either a cursor or refused; nothing else is raised."""
    for decode in (cursors.decode, cursors.decode_id):
        with suppress(InvalidRequestError):
            decode(text)
