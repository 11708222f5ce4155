"""
The outside programs of the build, each pinned, and how they are run.

They live in environments of their own (uv's tool runner): SAM CLI and checkov pin libraries that would fight with ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAM_CLI = "aws-sam-cli==1.170.0"
CHECKOV = "checkov==3.3.30"
MINISTACK = "ministack==1.5.33"
REGION = "us-east-1"


class MissingProgramError(Exception):
    """A program that the build needs is not on this machine."""


def uv() -> str:
    """Return the path of uv: `UV`, this virtual environment's, or the one on PATH; raises `MissingProgramError`."""
    beside = Path(sys.executable).with_name("uv")
    found = os.environ.get("UV") or (str(beside) if beside.exists() else shutil.which("uv"))
    if not found:
        raise MissingProgramError("uv is not installed: make the virtual environment first")
    return found


def tool(package: str, program: str, *arguments: str) -> list[str]:
    """Return the command that runs a program of a pinned package under this Python."""
    return [
        uv(),
        "tool",
        "run",
        "--quiet",
        "--python",
        sys.executable,
        "--from",
        package,
        program,
        *arguments,
    ]


def run(
    command: list[str], *, extra: Mapping[str, str] | None = None, log: Path | None = None
) -> int:
    """Run a command in the project's root and return its exit status; with `log`, all its output goes there."""
    environment = clean_environment() | dict(extra or {})
    if log is None:
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode  # noqa: S603
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        return subprocess.run(  # noqa: S603
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False
        ).returncode


def clean_environment() -> dict[str, str]:
    """
    Return this process's environment without anything that could lead to a real AWS account.

    No build step needs one, and `deploy-check` must not find one by mistake.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") or k == "AWS_CA_BUNDLE"}
    kept.pop("MAKEFLAGS", None)  # the layer's make is not a part of ours
    return kept | {
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(ROOT / ".aws-sam" / "cli"),  # not in the user's home
    }


def find_python(version: str) -> Path | None:
    """
    Return an interpreter of a minor version ("3.13") on this machine, or None. Downloads nothing.

    uv looks on PATH, but stops at a pyenv shim of a version that is not switched on; so pyenv's versions are
    offered in place of its shims.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = [p for p in os.environ.get("PATH", "").split(os.pathsep) if Path(p).name != "shims"]
    folders += [str(p) for p in sorted(pyenv.glob(f"versions/{version}.*/bin"))]
    found = subprocess.run(  # noqa: S603
        [uv(), "python", "find", "--no-python-downloads", "--no-project", version],
        env=os.environ | {"PATH": os.pathsep.join(folders)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return Path(found.stdout.strip()) if found.returncode == 0 and found.stdout.strip() else None
