"""The pinned requirements."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYER = ROOT / "layers" / "shared" / "requirements.txt"
LOCAL = ROOT / "requirements" / "local.txt"
DEV = ROOT / "requirements" / "dev.txt"


def pins(path: Path) -> dict[str, str]:
    """Return name -> version of every pinned package."""
    return dict(
        re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==([^ ;\\]+)", path.read_text(), re.MULTILINE)
    )


@pytest.mark.parametrize(("smaller", "larger"), [(LAYER, LOCAL), (LOCAL, DEV)])
def test_what_is_tested_is_what_is_shipped(smaller: Path, larger: Path) -> None:
    """Every package has one version, in the layer, in the local cloud and in the tests."""
    wanted, found = pins(smaller), pins(larger)

    assert wanted
    assert {name: found.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("path", [LAYER, LOCAL, DEV])
def test_every_package_is_pinned_by_hash(path: Path) -> None:
    """Nothing is installed that is not what was reviewed."""
    entries = re.split(r"^(?=[a-z0-9])", path.read_text(), flags=re.MULTILINE)[1:]

    assert entries
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_users_packages_are_shipped_or_used() -> None:
    """The packages this project was asked to be built on are there."""
    layer, dev = pins(LAYER), pins(DEV)

    for name in (
        "aws-lambda-powertools",
        "boto3",
        "stripe",
        "psycopg",
        "psycopg-binary",
        "supabase",
        "upstash-redis",
        "sentry-sdk",
        "pydantic",
    ):
        assert name in layer
    assert {"moto", "pytest"} <= set(dev)
