"""
Storage's rows and bytes.

The rows are read and written in the caller's transaction, whose role decides what the policies
allow. The bytes lie in one folder, named by the row's `version`, never by the object's name.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from psycopg.types.json import Jsonb

from local.standins.supabase_database import Connection, Row, fetch
from local.standins.supabase_errors import StorageError
from local.standins.supabase_uploads import Upload

Mode = Literal["create", "upsert", "replace"]


class Blobs:
    """The folder with the bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def new(self, data: bytes) -> Iterator[str]:
        """Keep `data` under a new version for the block; an exception in it removes it again."""
        version = str(uuid.uuid4())
        path = self._folder / version
        path.write_bytes(data)
        try:
            yield version
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def read(self, version: str) -> bytes:
        """Return the bytes; raises `StorageError` when they are gone."""
        try:
            return (self._folder / version).read_bytes()
        except FileNotFoundError:
            raise StorageError.no_bytes() from None

    def remove(self, version: str | None) -> None:
        """Remove the bytes of a row that is gone."""
        if version:
            (self._folder / version).unlink(missing_ok=True)


def timestamp(moment: datetime | None) -> str | None:
    """Return `moment` as Storage writes times: milliseconds and a Z."""
    if moment is None:
        return None
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def bucket(connection: Connection, bucket_id: str) -> Row:
    """Return the bucket's row; raises `StorageError` when it is missing or hidden."""
    row = fetch(connection, "select * from storage.buckets where id = %s", bucket_id)
    if row is None:
        raise StorageError.no_bucket()
    return row


def find(connection: Connection, bucket_id: str, name: str) -> Row:
    """Return the object's row; raises `StorageError` when it is missing or hidden."""
    row = fetch(
        connection,
        "select * from storage.objects where bucket_id = %s and name = %s",
        bucket_id,
        name,
    )
    if row is None:
        raise StorageError.no_object()
    return row


def write(
    connection: Connection,
    bucket_id: str,
    name: str,
    upload: Upload,
    *,
    version: str,
    owner: str | None,
    mode: Mode,
) -> tuple[str, str | None]:
    """
    Write the object's row and return its id and the version it replaces.

    A plain insert returns nothing from the database, because RETURNING would need a SELECT policy
    that uploading does not. Raises `psycopg.Error`, and `StorageError` for nothing to replace.
    """
    values = {
        "id": uuid.uuid4(),
        "bucket": bucket_id,
        "name": name,
        "owner": _uuid(owner),
        "owner_id": owner,
        "version": version,
        "metadata": Jsonb(upload.metadata()),
        "user_metadata": Jsonb(upload.user_metadata or {}),
    }
    if mode == "create":
        connection.execute(_INSERT, values)
        return str(values["id"]), None
    old = fetch(
        connection,
        "select version from storage.objects where bucket_id = %s and name = %s for update",
        bucket_id,
        name,
    )
    row = connection.execute(_UPSERT if mode == "upsert" else _REPLACE, values).fetchone()
    if row is None:
        raise StorageError.no_object()
    return str(row["id"]), old["version"] if old else None


def row_json(row: Row) -> dict[str, Any]:
    """Return the whole row, as remove and copy answer."""
    return {
        "name": row["name"],
        "bucket_id": row["bucket_id"],
        "owner": str(row["owner"] or ""),
        "owner_id": row["owner_id"] or "",
        "version": row["version"],
        "id": str(row["id"]),
        "updated_at": timestamp(row["updated_at"]),
        "created_at": timestamp(row["created_at"]),
        "last_accessed_at": timestamp(row["last_accessed_at"]),
        "metadata": row["metadata"],
        "user_metadata": row["user_metadata"],
    }


def entry_json(row: Row, name: str) -> dict[str, Any]:
    """Return the row as an entry of a list, under a name relative to what was listed."""
    return {
        "name": name,
        "id": str(row["id"]),
        "updated_at": timestamp(row["updated_at"]),
        "created_at": timestamp(row["created_at"]),
        "last_accessed_at": timestamp(row["last_accessed_at"]),
        "metadata": row["metadata"],
    }


def info_json(row: Row) -> dict[str, Any]:
    """Return what is known about one object; `metadata` is the user's own here."""
    metadata = row["metadata"]
    return {
        "id": str(row["id"]),
        "name": row["name"],
        "version": row["version"],
        "bucket_id": row["bucket_id"],
        "size": metadata["size"],
        "content_type": metadata["mimetype"],
        "cache_control": metadata["cacheControl"],
        "etag": metadata["eTag"],
        "metadata": row["user_metadata"] or {},
        "last_modified": metadata["lastModified"],
        "created_at": timestamp(row["created_at"]),
    }


def bucket_json(row: Row) -> dict[str, Any]:
    """Return the bucket object of the API."""
    return {
        "id": row["id"],
        "name": row["name"],
        "owner": row["owner_id"] or "",
        "public": row["public"],
        "file_size_limit": row["file_size_limit"],
        "allowed_mime_types": row["allowed_mime_types"],
        "created_at": timestamp(row["created_at"]),
        "updated_at": timestamp(row["updated_at"]),
    }


def _uuid(text: str | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(text or "")
    except ValueError:
        return None


_INSERT = """
insert into storage.objects
  (id, bucket_id, name, owner, owner_id, version, metadata, user_metadata)
values
  (%(id)s, %(bucket)s, %(name)s, %(owner)s, %(owner_id)s, %(version)s, %(metadata)s,
   %(user_metadata)s)
"""
_UPSERT = (
    _INSERT
    + """
on conflict (bucket_id, name) do update set
  owner = excluded.owner, owner_id = excluded.owner_id, version = excluded.version,
  metadata = excluded.metadata, user_metadata = excluded.user_metadata, updated_at = now()
returning id
"""
)
_REPLACE = """
update storage.objects set
  owner = %(owner)s, owner_id = %(owner_id)s, version = %(version)s, metadata = %(metadata)s,
  user_metadata = %(user_metadata)s, updated_at = now()
where bucket_id = %(bucket)s and name = %(name)s
returning id
"""
