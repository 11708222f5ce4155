"""Storage's two ways to list: one folder level (`list`), and everything under a prefix (v2)."""

from __future__ import annotations

import base64
from typing import Any

from local.standins.supabase_database import Connection, Row
from local.standins.supabase_errors import StorageError
from local.standins.supabase_objects import entry_json

_SORT_COLUMNS = ("name", "updated_at", "created_at", "last_accessed_at")
_FOLDER = ("id", "updated_at", "created_at", "last_accessed_at", "metadata")


def list_level(
    connection: Connection, bucket_id: str, body: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the files and folders right under `prefix`, names relative to it."""
    prefix = str(body.get("prefix") or "")
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    search = str(body.get("search") or "").lower()
    column, descending = _order(body)
    files, folders = [], set()
    for row in _under(connection, bucket_id, prefix):
        name, inside, _ = row["name"][len(prefix) :].partition("/")
        if not name.lower().startswith(search):
            continue
        if inside:
            folders.add(name)
        else:
            files.append((row[column], entry_json(row, name)))
    entries = [
        (name, {"name": name, **dict.fromkeys(_FOLDER)})
        for name in sorted(folders, reverse=descending)
    ]
    if column == "name":
        files = sorted(
            [(entry["name"], entry) for _, entry in files] + entries,
            key=lambda item: item[0],
            reverse=descending,
        )
    else:  # folders have no times of their own: they come first
        files = entries + sorted(files, key=lambda item: item[0], reverse=descending)
    offset = _number(body, "offset", 0)
    return [entry for _, entry in files[offset : offset + _number(body, "limit", 100)]]


def list_all(connection: Connection, bucket_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return a page of what lies under `prefix`, full names, folded at `/` when asked."""
    prefix = str(body.get("prefix") or "")
    limit = _number(body, "limit", 1000)
    after = _cursor(body.get("cursor"))
    column, descending = _order(body)
    if column != "name":
        raise StorageError.invalid("body/sortBy/column must be name")
    found: dict[str, dict[str, Any] | None] = {}
    for row in _under(connection, bucket_id, prefix):
        rest = row["name"][len(prefix) :]
        if body.get("with_delimiter") and "/" in rest:
            found[prefix + rest.partition("/")[0] + "/"] = None
        else:
            found[row["name"]] = entry_json(row, row["name"])
    names = sorted(found, reverse=descending)
    if after is not None:
        names = [name for name in names if (name < after if descending else name > after)]
    page = names[:limit]
    answer: dict[str, Any] = {
        "hasNext": len(names) > limit,
        "folders": [{"name": name, "key": name} for name in page if found[name] is None],
        "objects": [{**entry, "key": name} for name in page if (entry := found[name])],
    }
    if answer["hasNext"]:
        answer["nextCursor"] = base64.b64encode(page[-1].encode()).decode()
    return answer


def _under(connection: Connection, bucket_id: str, prefix: str) -> list[Row]:
    return connection.execute(
        "select * from storage.objects where bucket_id = %s and starts_with(name, %s)",
        (bucket_id, prefix),
    ).fetchall()


def _order(body: dict[str, Any]) -> tuple[str, bool]:
    order = body.get("sortBy") or {}
    column, direction = order.get("column") or "name", order.get("order") or "asc"
    if column not in _SORT_COLUMNS:
        message = "body/sortBy/column must be equal to one of the allowed values"
        raise StorageError.invalid(message)
    if direction not in ("asc", "desc"):
        message = "body/sortBy/order must be equal to one of the allowed values"
        raise StorageError.invalid(message)
    return column, direction == "desc"


def _number(body: dict[str, Any], name: str, default: int) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or value < 0:
        raise StorageError.invalid(f"body/{name} must be integer")
    return value


def _cursor(cursor: object) -> str | None:
    if not cursor:
        return None
    try:
        return base64.b64decode(str(cursor), validate=True).decode()
    except ValueError as error:
        raise StorageError.invalid("body/cursor is no cursor") from error
