"""
What a file is, told from its first bytes.

Neither a file name nor a Content-Type header is believed: both come from outside.
"""

from __future__ import annotations

from typing import NamedTuple

from holdfast.vocabulary import MediaKind

# Brands of the ISO base media format that are MP4 video; the same box also opens HEIC, AVIF and
# QuickTime files, which are not wanted.
_MP4_BRANDS = frozenset(
    {
        *(b"isom", b"iso2", b"iso3", b"iso4", b"iso5", b"iso6", b"iso7", b"iso8", b"iso9"),
        *(b"mp41", b"mp42", b"avc1", b"dash", b"M4V ", b"MSNV"),
    }
)


SNIFFED_BYTES = 64
"""How much of a file's beginning is read to tell what it is."""


class MediaType(NamedTuple):
    """A recognised file type."""

    content_type: str
    extension: str
    kind: MediaKind


PNG = MediaType("image/png", "png", MediaKind.IMAGE)
JPEG = MediaType("image/jpeg", "jpg", MediaKind.IMAGE)
WEBP = MediaType("image/webp", "webp", MediaKind.IMAGE)
GIF = MediaType("image/gif", "gif", MediaKind.IMAGE)
MP4 = MediaType("video/mp4", "mp4", MediaKind.VIDEO)


def sniff(data: bytes) -> MediaType | None:
    """Return the type of the file that begins with `data` (16 bytes suffice), or None."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        return PNG
    if data.startswith(b"\xff\xd8\xff"):
        return JPEG
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    if data.startswith((b"GIF87a", b"GIF89a")):
        return GIF
    if data[4:8] == b"ftyp" and data[8:12] in _MP4_BRANDS:
        return MP4
    return None
