"""
The SAM transform without AWS: template.yaml as the CloudFormation that it becomes.

Linters and tests look at this, because the raw template hides real errors from them: generated roles, queue
timeouts, integrations. `python -m tools.transform FILE` writes it as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from samtranslator.translator.arn_generator import ArnGenerator
from samtranslator.translator.managed_policy_translator import ManagedPolicyLoader
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from tools.programs import REGION, ROOT

TEMPLATE = ROOT / "template.yaml"


class _NoManagedPolicies(ManagedPolicyLoader):  # type: ignore[misc] # samtranslator has no types
    """The template names no managed policy, so there is no need to ask IAM for their ARNs."""

    def __init__(self) -> None: ...

    def load(self) -> dict[str, str]:
        """Return no policies."""
        return {}


def read_template(path: Path = TEMPLATE) -> dict[str, Any]:
    """Return a SAM template as it is written, intrinsics in their long form."""
    template: dict[str, Any] = yaml_parse(path.read_text())
    return template


def transformed(path: Path = TEMPLATE, parameters: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the CloudFormation template that SAM makes of a template file; raises its `InvalidDocumentException`."""
    template = read_template(path)
    for resource in template["Resources"].values():
        for key in ("CodeUri", "ContentUri"):
            if key in resource.get("Properties", {}):  # the transform runs after packaging
                resource["Properties"][key] = "s3://artifacts/packaged.zip"
    ArnGenerator.BOTO_SESSION_REGION_NAME = REGION
    result: dict[str, Any] = transform(template, dict(parameters or {}), _NoManagedPolicies())
    return result


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(transformed(), indent=1))
