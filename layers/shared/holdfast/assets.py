"""A user's own pictures, lent to the provider as inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from holdfast.database import Database
from holdfast.errors import RateLimitedError


@dataclass(frozen=True)
class Picture:
    """A user's own picture, as it was announced; `path` lies in the bucket `uploads`."""

    id: UUID
    path: str
    content_type: str
    bytes: int
    created_at: datetime


@dataclass(frozen=True)
class Asset:
    """A place for one picture; `path` lies in the bucket `uploads`."""

    id: UUID
    path: str


class AssetStore:
    """Name and find pictures; raises `UnavailableError` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, user_id: UUID, content_type: str, size: int, *, per_hour: int) -> Asset:
        """Name a place for a picture of `size` bytes; raises `RateLimitedError`."""
        row = self._database.one(
            "select * from backend.create_asset(%s, %s, %s, %s)",
            (user_id, content_type, size, per_hour),
        )
        if row["outcome"] == "rate_limited":
            raise RateLimitedError(
                "Too many uploads in the last hour.", retry_after=row["retry_after_seconds"]
            )
        return Asset(row["asset_id"], row["path"])

    def lend(self, user_id: UUID, asset_ids: Sequence[UUID]) -> dict[UUID, str]:
        """Return the paths of those of `asset_ids` that are the user's own, which count as used now."""
        rows = self._database.all(
            "select * from backend.lend_assets(%s, %s)", (user_id, list(asset_ids))
        )
        return {row["asset_id"]: row["path"] for row in rows}

    def newest(self, user_id: UUID, *, limit: int) -> list[Picture]:
        """Return the user's newest pictures."""
        rows = self._database.all(
            "select id, path, content_type, bytes, created_at from backend.list_assets(%s, %s)",
            (user_id, limit),
        )
        return [Picture(**row) for row in rows]
