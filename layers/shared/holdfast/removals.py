"""What users remove and what gets too old: a row is marked, its files go, the mark is settled."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from holdfast.database import Database
from holdfast.errors import NotFinishedError, NotFoundError


class Removable(StrEnum):
    """What has files."""

    ASSET = "asset"
    GENERATION = "generation"


@dataclass(frozen=True)
class Removal:
    """Files to remove, and whose they are: those at `paths`, and whatever lies in `folder`."""

    kind: Removable
    id: UUID
    bucket: str
    paths: tuple[str, ...]
    folder: str | None = None


class RemovalStore:
    """Mark, lease and settle removals; raises `UnavailableError` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def asset(self, user_id: UUID, asset_id: UUID, *, bucket: str) -> Removal:
        """Mark the user's own picture; raises `NotFoundError`."""
        row = self._database.one("select * from backend.remove_asset(%s, %s)", (user_id, asset_id))
        if row["outcome"] == "not_found":
            raise NotFoundError("There is no such upload.")
        return Removal(Removable.ASSET, asset_id, bucket, (row["path"],))

    def generation(self, user_id: UUID, generation_id: UUID, *, bucket: str) -> Removal:
        """Mark the user's own generation; raises `NotFoundError` and `NotFinishedError`."""
        row = self._database.one(
            "select * from backend.remove_generation(%s, %s)", (user_id, generation_id)
        )
        if row["outcome"] == "not_found":
            raise NotFoundError("There is no such generation.")
        if row["outcome"] == "not_final":
            raise NotFinishedError("It is still under way. Cancel it first.")
        return Removal(
            Removable.GENERATION, generation_id, bucket, tuple(row["paths"]), row["folder"]
        )

    def finish(self, removal: Removal) -> None:
        """Note that the files are gone."""
        self._database.one("select backend.finish_removal(%s, %s)", (removal.kind, removal.id))

    def claim(self, *, limit: int, idle_seconds: int, lease_seconds: int) -> list[Removal]:
        """Lease what was marked, or refunded by the operator, a while ago and may still have files."""
        rows = self._database.all(
            "select * from backend.claim_removals(%s, %s, %s)", (limit, idle_seconds, lease_seconds)
        )
        return [
            Removal(
                Removable(row["kind"]), row["id"], row["bucket"], tuple(row["paths"]), row["folder"]
            )
            for row in rows
        ]

    def mark_unused_assets(self, *, days: int, limit: int, dry_run: bool) -> int:
        """Mark pictures that nobody lent for so many days; return how many (would be)."""
        row = self._database.one(
            "select backend.mark_unused_assets(%s, %s, %s) as marked", (days, limit, dry_run)
        )
        return int(row["marked"])

    def remove_old_events(self, *, days: int, limit: int, dry_run: bool) -> dict[str, int]:
        """Remove events older than so many days (31 at least); return how many of each (would be)."""
        rows = self._database.all(
            "select * from backend.remove_old_events(%s, %s, %s)", (days, limit, dry_run)
        )
        return {row["what"]: row["rows"] for row in rows}
