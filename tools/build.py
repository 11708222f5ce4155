"""
Build the bundle with `sam build`, once for AWS and once for this machine.

`deploy` validates, then packs for Lambda's runtime and processor, to .aws-sam/build, where `sam deploy` looks.
`local` packs for this interpreter and this machine, to .aws-sam/local, where the local cloud and the tests look.
Nothing is done when no input changed. A lock lets several processes ask for the same build at once.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.programs import ROOT, SAM_CLI, find_python, run, tool, uv
from tools.validate import validate

RUNTIME = "3.13"
MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}  # Lambda's name: the wheels' name
UNZIPPED_LIMIT = 250 * 1024 * 1024  # function and layers together
DIRECT_UPLOAD_LIMIT = 50 * 1024 * 1024  # zip; `sam deploy` uploads to S3, where it does not apply
OUTPUT = ROOT / ".aws-sam"
STAMP = "holdfast-build.json"


@dataclass(frozen=True)
class Flavour:
    """One way to pack the layer. `folder` is SAM's working folder: build, cache and build.toml."""

    name: str
    python: str
    architecture: str
    machine: str
    folder: Path
    bytecode_python: Path | None

    @property
    def build(self) -> Path:
        """The built bundle: template.yaml and a folder for each function and layer."""
        return self.folder / "build"


@dataclass(frozen=True)
class Sizes:
    """Bytes of a built layer; `zipped` is 0 where nobody uploads it."""

    unzipped: int
    bytecode: int
    zipped: int
    largest_function: int


class BuildError(Exception):
    """The bundle could not be built; the message says why."""


def flavour(name: str, architecture: str = "arm64") -> Flavour:
    """Return the flavour `deploy` (for Lambda's `architecture`) or `local` (for this machine)."""
    if name == "deploy":
        machine = MACHINES[architecture]
        return Flavour(name, RUNTIME, architecture, machine, OUTPUT, find_python(RUNTIME))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    here = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    # A folder of its own: SAM's build.toml beside the build would mix up the two caches.
    return Flavour(name, python, here, "native", OUTPUT / "host", Path(sys.executable))


def fingerprint(wanted: Flavour) -> str:
    """Return a digest of all that the build depends on."""
    digest = hashlib.sha256()
    settings = asdict(wanted) | {"sam": SAM_CLI}
    digest.update(json.dumps(settings, default=str, sort_keys=True).encode())
    for path in _inputs():
        digest.update(f"\n{path.relative_to(ROOT)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def build(wanted: Flavour, *, require_bytecode: bool) -> tuple[Sizes, bool]:
    """Build unless up to date; return the sizes and whether anything was done. Raises `BuildError`."""
    if require_bytecode and wanted.bytecode_python is None:
        raise BuildError(f"no Python {wanted.python} to compile bytecode with")
    with _lock():
        digest = fingerprint(wanted)
        stamp = wanted.build / STAMP
        before = _read(stamp)
        if before.get("fingerprint") == digest:
            return Sizes(**before["sizes"]), False
        packing = [wanted.python, wanted.machine, str(wanted.bytecode_python)]
        if before.get("packing") != packing:  # SAM's cache looks at sources only
            for leftover in ("build", "cache"):
                shutil.rmtree(wanted.folder / leftover, ignore_errors=True)
            (wanted.folder / "build.toml").unlink(missing_ok=True)
        stamp.unlink(missing_ok=True)
        if wanted.name == "deploy" and not validate():
            raise BuildError("template.yaml is not valid")
        _sam_build(wanted)
        sizes = _measure(wanted)
        if sizes.unzipped + sizes.largest_function > UNZIPPED_LIMIT:
            raise BuildError(f"function and layer exceed {UNZIPPED_LIMIT} bytes unzipped: {sizes}")
        if wanted.name == "local":
            _point(OUTPUT / "local", wanted.build)
        stamp.write_text(
            json.dumps({"fingerprint": digest, "packing": packing, "sizes": asdict(sizes)})
        )
        return sizes, True


def _sam_build(wanted: Flavour) -> None:
    arguments = ["--build-dir", str(wanted.build), "--cache-dir", str(wanted.folder / "cache")]
    arguments += ["--parameter-overrides", f"Architecture={wanted.architecture}"]
    extra = {
        "UV": uv(),
        "UV_PYTHON": sys.executable,
        "PY": wanted.python,
        "ARCH": wanted.machine,
        "BYTECODE_PYTHON": str(wanted.bytecode_python or ""),
    }
    log = OUTPUT / f"build-{wanted.name}.log"
    command = tool(SAM_CLI, "sam", "build", "--cached", "--parallel", *arguments)
    if run(command, extra=extra, log=log):
        raise BuildError(f"sam build failed:\n{log.read_text(errors='replace')}")


def _measure(wanted: Flavour) -> Sizes:
    layer = (wanted.build / "SharedLayer").resolve()
    files = [p for p in layer.rglob("*") if p.is_file()]
    functions = [p for p in wanted.build.iterdir() if p.is_dir() and p.name != "SharedLayer"]
    return Sizes(
        unzipped=sum(p.stat().st_size for p in files),
        bytecode=sum(p.stat().st_size for p in files if p.suffix == ".pyc"),
        zipped=_zipped(layer, files) if wanted.name == "deploy" else 0,
        largest_function=max(
            sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) for p in functions
        ),
    )


def _zipped(layer: Path, files: list[Path]) -> int:
    with tempfile.TemporaryFile() as target:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                archive.write(path, path.relative_to(layer))
        return target.tell()


def _inputs() -> Iterator[Path]:
    yield from (ROOT / "template.yaml", ROOT / "samconfig.toml", Path(__file__))
    for top in ("functions", "layers"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def _read(stamp: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return {}
    return found


def _point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, at once, whatever was there."""
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    fresh = link.with_name(f"{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(target, link.parent))
    fresh.replace(link)


@contextmanager
def _lock() -> Iterator[None]:
    OUTPUT.mkdir(exist_ok=True)
    with (OUTPUT / "build.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _table(sizes: Sizes) -> str:
    def row(name: str, size: int, limit: int, note: str = "") -> str:
        share = f"{size / limit:6.0%} of {limit / 1048576:.0f}" if limit else ""
        return f"  {name:<28}{size / 1048576:8.1f} MB  {share:<14} {note}".rstrip()

    lines = [row("layer, unzipped", sizes.unzipped, 0), row("  of it bytecode", sizes.bytecode, 0)]
    total = sizes.unzipped + sizes.largest_function
    lines.append(row("with the largest function", total, UNZIPPED_LIMIT))
    if sizes.zipped:
        note = "(limit of a direct upload; S3 has none)"
        lines.append(row("layer, zipped", sizes.zipped, DIRECT_UPLOAD_LIMIT, note))
    return "\n".join(lines)


def main() -> int:
    """Build one flavour from the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", choices=["deploy", "local"])
    parser.add_argument("--architecture", choices=list(MACHINES), default="arm64")
    chosen = parser.parse_args()
    wanted = flavour(chosen.flavour, chosen.architecture)
    if wanted.bytecode_python is None:
        sys.stderr.write(
            f"\nWARNING: no Python {wanted.python} on this machine: the layer ships WITHOUT bytecode, and cold\n"
            "         starts take about twice as long. REQUIRE_BYTECODE=1 makes this an error.\n\n"
        )
    started = time.monotonic()
    try:
        sizes, done = build(wanted, require_bytecode=os.environ.get("REQUIRE_BYTECODE") == "1")
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    how = f"built in {time.monotonic() - started:.1f} s" if done else "up to date"
    where = (OUTPUT / ("build" if wanted.name == "deploy" else "local")).relative_to(ROOT)
    packed_for = f"Python {wanted.python}, {wanted.architecture}"
    sys.stdout.write(f"{where}: {how} ({packed_for})\n{_table(sizes)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
