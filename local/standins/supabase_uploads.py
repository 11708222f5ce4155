"""
What an upload carries: bytes, type, caching and metadata, from each way the clients send them.

The Python client and browsers send multipart bodies (with different field names), supabase-js in
Node sends the bytes as they are.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from typing import Any

from local.standins.server import Request
from local.standins.supabase_errors import StorageError

NO_CACHE = "no-cache"
_KEY = re.compile(r"[A-Za-z0-9_/!.*'() &$=@;:+,?-]{1,1024}")
_UNITS = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3}
_SIZE = re.compile(r"(\d+)\s*([A-Za-z]*)")


@dataclass(frozen=True)
class Upload:
    """A file on its way in."""

    data: bytes
    mime: str
    cache_control: str
    user_metadata: dict[str, Any] | None

    def metadata(self) -> dict[str, Any]:
        """Return the object's system metadata, as stored in its row."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "eTag": f'"{hashlib.md5(self.data).hexdigest()}"',
            "size": len(self.data),
            "mimetype": self.mime,
            "cacheControl": self.cache_control,
            "lastModified": now,
            "contentLength": len(self.data),
            "httpStatusCode": 200,
        }

    def check(self, bucket: dict[str, Any], project_limit: int) -> None:
        """Raise `StorageError` when the bucket does not take this file."""
        allowed = bucket["allowed_mime_types"]
        kind = self.mime.split(";")[0].strip().lower()
        if allowed and not any(_type_fits(kind, pattern.lower()) for pattern in allowed):
            raise StorageError.invalid_type(self.mime)
        if len(self.data) > min(bucket["file_size_limit"] or project_limit, project_limit):
            raise StorageError.too_large()


def checked_key(name: str) -> str:
    """Return `name` when it may name an object; raises `StorageError`."""
    if not _KEY.fullmatch(name) or name.startswith("/"):
        raise StorageError.invalid_key(name)
    return name


def parse_size(value: object) -> int | None:
    """Return a bucket's size limit in bytes from 5000000 or "5MB"; raises `StorageError`."""
    if value is None:
        return None
    match = _SIZE.fullmatch(str(value))
    if not match or match[2].upper() not in _UNITS:
        raise StorageError.invalid("body/file_size_limit must be a size")
    return int(match[1]) * _UNITS[match[2].upper()]


def read_upload(request: Request) -> Upload:
    """Return the file in the request; raises `StorageError` for a malformed body."""
    content_type = request.headers.get("content-type", "application/octet-stream")
    if content_type.startswith("multipart/form-data"):
        return _read_multipart(request.body, content_type)
    encoded = request.headers.get("x-metadata")
    return Upload(
        data=request.body,
        mime=content_type,
        cache_control=request.headers.get("cache-control", NO_CACHE),
        user_metadata=_metadata(base64.b64decode(encoded)) if encoded else None,
    )


def _read_multipart(body: bytes, content_type: str) -> Upload:
    fields: dict[str, str] = {}
    file: tuple[bytes, str] | None = None
    for head, data in _parts(body, str(_parameters("content-type", content_type)["boundary"])):
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.splitlines())
        }
        disposition = _parameters("content-disposition", headers.get("content-disposition", ""))
        if "filename" in disposition:  # supabase-js leaves the file's field name empty
            file = (data, headers.get("content-type", "application/octet-stream"))
        else:
            fields[str(disposition.get("name", ""))] = data.decode()
    if file is None:
        raise StorageError.invalid("body must have a file")
    cache = fields.get("cacheControl")
    return Upload(
        data=file[0],
        mime=fields.get("contentType") or file[1],
        cache_control=f"max-age={cache}" if cache else NO_CACHE,
        user_metadata=_metadata(fields["metadata"].encode()) if "metadata" in fields else None,
    )


def _parts(body: bytes, boundary: str) -> list[tuple[str, bytes]]:
    """Return (header block, bytes) of each part."""
    sections = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    if len(sections) < 3 or not sections[-1].startswith(b"--"):
        raise StorageError.invalid("body is no complete multipart message")
    found = []
    for section in sections[1:-1]:
        head, separator, data = section.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if not separator:
            raise StorageError.invalid("body has a part without headers")
        found.append((head.decode(), data))
    return found


def _parameters(name: str, value: str) -> dict[str, Any]:
    message = Message()
    message[name] = value
    return {"boundary": "", **dict(message.get_params([], header=name))}


def _metadata(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise StorageError.invalid("metadata must be JSON") from error
    if not isinstance(value, dict):
        raise StorageError.invalid("metadata must be an object")
    return value


def _type_fits(kind: str, pattern: str) -> bool:
    if pattern.endswith("/*"):
        return kind.startswith(pattern[:-1])
    return kind == pattern
