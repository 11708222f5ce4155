"""Lint template.yaml as SAM transforms it: cfn-lint for what is wrong, checkov for what is unsafe."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tools.programs import CHECKOV, ROOT, run, tool
from tools.transform import transformed

RESULT = Path(".aws-sam") / "transformed.json"


def main() -> int:
    """Run both linters, also when the first complains; return 1 when any did."""
    target = ROOT / RESULT
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(transformed(), indent=1))
    cfn_lint = run([str(Path(sys.executable).with_name("cfn-lint")), str(RESULT)])
    checkov = run(tool(CHECKOV, "checkov", "--config-file", ".checkov.yaml", "--file", str(RESULT)))
    return int(bool(cfn_lint or checkov))


if __name__ == "__main__":
    sys.exit(main())
