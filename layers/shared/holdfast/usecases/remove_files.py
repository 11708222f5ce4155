"""Remove files from storage: in a user's request, and in the cleaning when that one could not."""

from __future__ import annotations

from holdfast.removals import Removal
from holdfast.storage import StorageSigner


def remove_files(storage: StorageSigner, removal: Removal) -> None:
    """Remove what a removal names; raises `UnavailableError` and `StoragePermanentError`."""
    paths = list(removal.paths)
    if removal.folder is not None:
        files = storage.folder(removal.folder, bucket=removal.bucket)
        paths += [f"{removal.folder}/{file.name}" for file in files]
    storage.remove(paths, bucket=removal.bucket)
