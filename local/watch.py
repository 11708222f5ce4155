"""
Reload for `make dev`: a changed source file gives its function a fresh process for the next event.

Polls modification times; a few hundred files twice a second cost nothing, and it works the same on every system.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from local.runtime import Function

POLL_SECONDS = 0.5
WATCHED_SUFFIXES = (".py", ".json", ".sql", ".toml", ".txt", ".html")


class Watcher:
    """
    Recycles functions whose code or layers have changed. Start it when the functions are up, stop it before them.

    `on_change(logical_ids)` is told which functions were recycled.
    """

    def __init__(
        self,
        functions: Mapping[str, Function],
        on_change: Callable[[list[str]], None] | None = None,
        seconds: float = POLL_SECONDS,
    ) -> None:
        self._functions = functions
        self._on_change = on_change
        self._seconds = seconds
        self._seen = {folder: _fingerprint(folder) for folder in self._folders()}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Watch in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> list[str]:
        """Recycle what has changed since the last look; return the functions' logical ids."""
        changed = set()
        for folder, before in self._seen.items():
            now = _fingerprint(folder)
            if now != before:
                self._seen[folder] = now
                changed.add(folder)
        affected = [
            logical_id
            for logical_id, function in self._functions.items()
            if changed & {function.spec.code, *function.spec.layers}
        ]
        for logical_id in affected:
            self._functions[logical_id].recycle()
        if affected and self._on_change:
            self._on_change(affected)
        return affected

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            self.check()

    def _folders(self) -> Iterable[Path]:
        for function in self._functions.values():
            yield function.spec.code
            yield from function.spec.layers


def _fingerprint(folder: Path) -> dict[Path, int]:
    """Return the watched files of a folder with their times of change, in nanoseconds."""
    times: dict[Path, int] = {}
    for path in folder.rglob("*"):
        if path.suffix in WATCHED_SUFFIXES:
            try:
                times[path] = path.stat().st_mtime_ns
            except FileNotFoundError:  # an editor's temporary file
                continue
    return times
