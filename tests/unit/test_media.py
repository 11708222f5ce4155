from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.media import GIF, JPEG, MP4, PNG, WEBP, sniff

PNG_BYTES = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\0" * 8


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (PNG_BYTES, PNG),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\0", JPEG),
        (b"\xff\xd8\xff\xdb" + b"\0" * 12, JPEG),
        (b"RIFF\x24\0\0\0WEBPVP8 ", WEBP),
        (b"GIF87a" + b"\0" * 10, GIF),
        (b"GIF89a" + b"\0" * 10, GIF),
        (b"\0\0\0\x20ftypisom\0\0\2\0", MP4),
        (b"\0\0\0\x20ftypmp42\0\0\0\0", MP4),
    ],
)
def test_the_five_types_are_told_by_their_first_bytes(data: Any, expected: Any) -> None:
    """Sixteen bytes suffice to recognise each type that is sold."""
    assert sniff(data[:16]) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIDAT",
        b"\xff\xd8",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"GIF88a",
        b"\0\0\0\x1cftypheic",
        b"\0\0\0\x1cftypavif",
        b"\0\0\0\x14ftypqt  ",
        b"<!DOCTYPE html><html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'>",
        b"%PDF-1.7",
        b'{"error":"not found"}',
    ],
)
def test_what_looks_similar_is_not_taken(data: Any) -> None:
    """Half a signature, a sister format or a page is no media."""
    assert sniff(data) is None


@given(st.binary(max_size=40))
def test_no_bytes_break_it(data: Any) -> None:
    """Whatever arrives, the answer is a type or None."""
    assert sniff(data) in (None, PNG, JPEG, WEBP, GIF, MP4)
