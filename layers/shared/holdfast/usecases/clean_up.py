"""Remove what nobody needs any more: files left behind, unused pictures, old events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from holdfast.errors import HoldfastError
from holdfast.observability import count, logger
from holdfast.removals import RemovalStore
from holdfast.storage import StorageSigner
from holdfast.usecases.remove_files import remove_files

BATCH = 200
IDLE_SECONDS = 300
LEASE_SECONDS = 300


@dataclass(frozen=True)
class Cleaned:
    """What a run removed, or would remove."""

    dry_run: bool
    unused_assets: int
    removals: int
    failed: int
    events: dict[str, int]


class Cleaner:
    """Clean up; several may run at once, each gets its own removals."""

    def __init__(
        self,
        removals: RemovalStore,
        storage: StorageSigner,
        *,
        asset_days: int,
        event_days: int,
    ) -> None:
        self._removals = removals
        self._storage = storage
        self._asset_days = asset_days
        self._event_days = event_days

    def run(self, has_time: Callable[[], bool], *, dry_run: bool = False) -> Cleaned:
        """
        Work until nothing is left or `has_time` says no.

        A dry run counts what is old and changes nothing. Files that cannot be removed now are claimed again later.
        """
        unused = self._removals.mark_unused_assets(
            days=self._asset_days, limit=BATCH, dry_run=dry_run
        )
        removed = failed = 0
        while not dry_run and has_time():
            # a user's own removal is under way in its request: left alone for a while
            batch = self._removals.claim(
                limit=BATCH, idle_seconds=IDLE_SECONDS, lease_seconds=LEASE_SECONDS
            )
            for removal in batch:
                try:
                    remove_files(self._storage, removal)
                    self._removals.finish(removal)
                except HoldfastError as trouble:
                    failed += 1
                    logger().warning("removal waits", id=str(removal.id), reason=str(trouble))
                else:
                    removed += 1
            if len(batch) < BATCH:
                break
        events = self._removals.remove_old_events(
            days=self._event_days, limit=BATCH * 50, dry_run=dry_run
        )
        count("Cleaned.Files", removed)
        return Cleaned(dry_run, unused, removed, failed, events)
