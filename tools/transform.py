"""
The SAM transform without AWS: template.yaml as the CloudFormation that it becomes.

Linters and tests look at this, because the raw template hides real errors from them: generated roles, queue
timeouts, integrations.
"""

from __future__ import annotations

from typing import Any

import boto3  # type: ignore[import-untyped]
from samtranslator.parser.parser import Parser  # type: ignore[import-untyped]
from samtranslator.translator.arn_generator import ArnGenerator  # type: ignore[import-untyped]
from samtranslator.translator.translator import Translator  # type: ignore[import-untyped]
from samtranslator.utils.py27hash_fix import (  # type: ignore[import-untyped]
    to_py27_compatible_template,
    undo_mark_unicode_str_in_template,
)
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from tools.programs import REGION, ROOT

TEMPLATE = ROOT / "template.yaml"


def read_template() -> dict[str, Any]:
    """Return the template as it is written, intrinsics in their long form."""
    template: dict[str, Any] = yaml_parse(TEMPLATE.read_text())
    return template


def transformed() -> dict[str, Any]:
    """Return the CloudFormation that SAM makes of the template; raises its `InvalidDocumentException`."""
    template, values = read_template(), dict[str, str]()
    for resource in template["Resources"].values():
        for key in ("CodeUri", "ContentUri"):
            if key in resource.get("Properties", {}):  # the transform runs after packaging
                resource["Properties"][key] = "s3://artifacts/packaged.zip"
    ArnGenerator.BOTO_SESSION_REGION_NAME = REGION
    session = boto3.session.Session(region_name=REGION)  # else a region must be configured
    to_py27_compatible_template(template, values)  # logical ids hash as they do on AWS
    # No managed policy is named in the template, so none has to be looked up.
    made = Translator({}, Parser(), boto_session=session).translate(template, values)
    result: dict[str, Any] = undo_mark_unicode_str_in_template(made)
    return result
