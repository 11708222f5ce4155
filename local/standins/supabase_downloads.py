"""A stored file as an HTTP answer: ranges, conditions, caching and the name to save it under."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from local.standins.server import Request, Response
from local.standins.supabase_errors import StorageError

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_UNRESERVED = "!~*'()"  # what JavaScript's encodeURIComponent leaves as it is


def file_response(
    request: Request, metadata: dict[str, Any], data: bytes, *, expires: int | None = None
) -> Response:
    """
    Answer with the file, or the part of it the request's `Range` asks for.

    `expires` (unix seconds) is the end of a signed URL; without it the object's own caching
    applies. Raises `StorageError` for a range outside the file.
    """
    modified = datetime.fromisoformat(metadata["lastModified"]).replace(microsecond=0)
    headers = {
        "accept-ranges": "bytes",
        "content-type": metadata["mimetype"],
        "etag": metadata["eTag"],
        "last-modified": format_datetime(modified, usegmt=True),
        "x-robots-tag": "none",
    }
    if expires is None:
        headers["cache-control"] = metadata["cacheControl"]
    else:
        headers["expires"] = format_datetime(datetime.fromtimestamp(expires, UTC), usegmt=True)
    if (name := request.query.get("download")) is not None:
        headers["content-disposition"] = _disposition(name)
    if _unchanged(request, metadata["eTag"], modified):
        return Response(304, headers=headers)
    if (wanted := request.headers.get("range")) is None:
        return Response(200, data, headers)
    start, end = _bounds(wanted, len(data))
    headers["content-range"] = f"bytes {start}-{end}/{len(data)}"
    return Response(206, data[start : end + 1], headers)


def _bounds(wanted: str, size: int) -> tuple[int, int]:
    match = _RANGE.fullmatch(wanted)
    if not match or not (match[1] or match[2]):
        raise StorageError.invalid_range()
    if match[1]:
        start, end = int(match[1]), min(int(match[2] or size), size - 1)
    else:
        start, end = max(size - int(match[2]), 0), size - 1
    if start > end:
        raise StorageError.invalid_range()
    return start, end


def _unchanged(request: Request, etag: str, modified: datetime) -> bool:
    if (tags := request.headers.get("if-none-match")) is not None:
        return tags.strip() == "*" or etag in [tag.strip() for tag in tags.split(",")]
    if (since := request.headers.get("if-modified-since")) is not None:
        try:
            return modified <= parsedate_to_datetime(since)
        except ValueError:
            return False
    return False


def _disposition(name: str) -> str:
    if not name:
        return "attachment;"
    encoded = quote(name, safe=_UNRESERVED)
    return f"attachment; filename={encoded}; filename*=UTF-8''{encoded}"
