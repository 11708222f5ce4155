"""
The local cloud leaves nothing behind, however its owner ends.

Cleaning up in `finally` is not enough: a test runner, a laptop lid or a chaos test may kill the owner with SIGKILL.
So a small child holds the reading end of a pipe whose writing end only the owner has. When the owner is gone,
whatever the reason, the child reads end-of-file, kills every process group it was told of and removes the run
directory.

This file is both sides: the class below is the owner's, `main` is the child's. The child needs the standard library
only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path


class Reaper:
    """The owner's side. Process groups named by `watch` and `directory` do not outlive this process."""

    def __init__(self, directory: Path) -> None:
        self._lock = threading.Lock()
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(directory)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C at the terminal is for the owner
        )

    def watch(self, group: int) -> None:
        """Kill the process group `group` when this process ends."""
        self._tell(f"watch {group}")

    def forget(self, group: int) -> None:
        """Leave the process group `group` alone: it has ended, its number may be used again."""
        self._tell(f"forget {group}")

    def close(self) -> None:
        """Kill what is still watched, remove the directory and wait until both are done."""
        stdin = self._child.stdin
        with self._lock:
            if stdin and not stdin.closed:
                with suppress(BrokenPipeError):
                    stdin.close()
        self._child.wait()

    def _tell(self, line: str) -> None:
        stdin = self._child.stdin
        with self._lock:
            if stdin and not stdin.closed:
                with suppress(BrokenPipeError):  # somebody killed the child: the owner goes on
                    stdin.write(f"{line}\n".encode())
                    stdin.flush()


def kill_group(group: int) -> None:
    """Send SIGKILL to a process group, if it is still there."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def main(directory: str) -> None:
    """Read orders until the owner is gone, then clean up after it."""
    groups: set[int] = set()
    for line in sys.stdin:
        verb, _, group = line.partition(" ")
        if verb == "watch":
            groups.add(int(group))
        else:
            groups.discard(int(group))
    for group in groups:
        kill_group(group)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
