"""
Write clients/typescript/holdfast.d.ts: the types of docs/openapi.json, made by openapi-typescript.

    python -m tools.typescript_client
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools.node import installed, node

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "openapi.json"
CLIENT = ROOT / "clients" / "typescript"
TARGET = CLIENT / "holdfast.d.ts"
OPTIONS = (
    "--default-non-nullable=false",  # what has a default may be left out of a request
    "--root-types",
    "--root-types-no-schema-prefix",
)


def types() -> str:
    """Return the types as the generator writes them now."""
    tool = installed(CLIENT, "typescript-client") / "node_modules/openapi-typescript/bin/cli.js"
    made = subprocess.run(  # noqa: S603 - our own pinned tools
        [node(), tool, DOCUMENT, *OPTIONS],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return made.stdout


if __name__ == "__main__":
    TARGET.write_text(types())
