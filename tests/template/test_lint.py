"""The template as a whole: no linter complains, no parameter is idle, the CLI's settings fit."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.api import lint_file  # type: ignore[import-untyped]
from cfnlint.config import ManualArgs  # type: ignore[import-untyped]

from tools.programs import ROOT
from tools.transform import read_template


def test_cfn_lint_on_the_transformed_template(
    cloudformation: dict[str, Any], tmp_path: Path
) -> None:
    """cfn-lint finds nothing in what the template becomes, not even a warning."""
    path = tmp_path / "transformed.json"
    path.write_text(json.dumps(cloudformation, indent=1))
    assert lint_file(path, config=ManualArgs(regions=["us-east-1", "eu-central-1"])) == []


def test_cfn_lint_would_find_an_error(cloudformation: dict[str, Any], tmp_path: Path) -> None:
    """The same call does find a visibility timeout that is shorter than the function's."""
    broken = json.loads(json.dumps(cloudformation))
    broken["Resources"]["SettleQueue"]["Properties"]["VisibilityTimeout"] = 10
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(broken))
    assert [m.rule.id for m in lint_file(path, config=ManualArgs(regions=["us-east-1"]))] == [
        "E3505"
    ]


def test_parameters_are_used() -> None:
    """Every parameter is described and used."""
    template = read_template()
    rest = json.dumps({k: v for k, v in template.items() if k != "Parameters"})
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"], name
        assert re.search(rf'"Ref": "{name}"|\${{{name}}}', rest), name


@pytest.mark.parametrize("stage", ["default", "production"])
def test_samconfig_fits_the_template(stage: str) -> None:
    """Each configuration sets only parameters that exist, to allowed values, and all that have no default."""
    settings = tomllib.loads((ROOT / "samconfig.toml").read_text())
    declared = read_template()["Parameters"]
    given = dict(
        item.split("=", 1)
        for item in settings[stage]["deploy"]["parameters"]["parameter_overrides"]
    )
    assert given.keys() <= declared.keys()
    assert {n for n, p in declared.items() if "Default" not in p} <= given.keys()
    for name, value in given.items():
        assert value in declared[name].get("AllowedValues", [value]), name
        assert re.fullmatch(declared[name].get("AllowedPattern", ".*"), value), name
    assert settings[stage]["validate"]["parameters"]["lint"] is True


def test_every_skipped_rule_has_a_reason() -> None:
    """A security rule that is off says why, in its own line."""
    text = (ROOT / ".checkov.yaml").read_text()
    skipped = yaml.safe_load(text)["skip-check"]
    reasons = re.findall(r"^  - (CKV_\w+) # .{20,}$", text, re.MULTILINE)
    assert reasons == skipped
