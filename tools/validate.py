"""Validate and lint template.yaml with the SAM CLI, as `sam deploy` will."""

from __future__ import annotations

import sys

from tools.programs import SAM_CLI, run, tool


def validate() -> bool:
    """Return whether the SAM CLI accepts the template; it prints its findings."""
    return run(tool(SAM_CLI, "sam", "validate", "--lint")) == 0


if __name__ == "__main__":
    sys.exit(not validate())
