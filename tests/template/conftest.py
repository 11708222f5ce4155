"""The template as SAM transforms it, and the built bundles: each made once, however many tests look."""

from pathlib import Path
from typing import Any

import pytest

from local.template import FunctionSpec, read_template
from tests.template.support import REQUIRED, of_type
from tools.build import build, flavour
from tools.transform import transformed


@pytest.fixture(scope="session")
def cloudformation() -> dict[str, Any]:
    """template.yaml as CloudFormation gets it."""
    return transformed()


@pytest.fixture(scope="session")
def functions(cloudformation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the properties of every Lambda function by logical id."""
    return of_type(cloudformation, "AWS::Lambda::Function")


@pytest.fixture(scope="session")
def local_bundle() -> Path:
    """Return the bundle for this machine, built when stale; a lock makes other workers wait."""
    wanted = flavour("local")
    build(wanted, require_bytecode=True)
    return wanted.build


@pytest.fixture(scope="session")
def deploy_bundle() -> Path:
    """Return the bundle for AWS, built for arm64 when stale."""
    wanted = flavour("deploy")
    build(wanted, require_bytecode=False)
    return wanted.build


@pytest.fixture(scope="session")
def built_functions(local_bundle: Path) -> dict[str, FunctionSpec]:
    """Return every function as the local cloud reads it from the built template: its code, its layer."""
    return dict(read_template(local_bundle / "template.yaml", REQUIRED).functions)
