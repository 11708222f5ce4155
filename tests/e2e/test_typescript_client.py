"""The TypeScript client: made from the document, checked by the compiler, run against the product."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.people import IMAGE_COST
from tests.e2e.world import World
from tools.node import installed, node
from tools.typescript_client import CLIENT, TARGET, types

PROGRAMS = Path(__file__).parent / "typescript"


@pytest.fixture(name="project", scope="module")
def _project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that uses the client as a frontend would: its files copied, its packages installed."""
    project = tmp_path_factory.mktemp("typescript")
    shutil.copytree(CLIENT, project / "client")
    for program in PROGRAMS.iterdir():
        shutil.copy(program, project)
    shutil.copy(CLIENT / "tsconfig.json", project)
    (project / "package.json").write_text('{"type": "module"}')
    packages = installed(CLIENT, "typescript-client") / "node_modules"
    (project / "node_modules").symlink_to(packages, target_is_directory=True)
    return project


def _run(*command: str | Path, project: Path, **environment: str) -> str:
    done = subprocess.run(
        [node(), *command],
        cwd=project,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_types_are_those_of_the_document() -> None:
    """`make client` would write the same file again."""
    assert TARGET.read_text() == types()


def test_client_and_programs_compile(project: Path) -> None:
    """The strictest compiler accepts the client and a program that uses it, and finds every planted mistake."""
    _run("node_modules/typescript/bin/tsc", "--project", project, project=project)


def test_the_journey_through_the_typed_client(world: World, project: Path) -> None:
    """Somebody without credits is refused, buys, generates, is charged, cancels too late and removes the picture."""
    newcomer = world.person()

    said = _run("journey.ts", project=project, API_URL=world.stack.url, TOKEN=newcomer.token)

    journey = json.loads(said)
    assert Decimal(journey["before"]) == 0
    assert Decimal(journey["after"]) == Decimal(journey["paid"]) - Decimal(journey["cost"])
    assert {
        name: journey[name] for name in ("refused", "missing", "status", "late", "removed")
    } == {
        "refused": "unauthenticated",
        "missing": journey["cost"],
        "status": "succeeded",
        "late": "succeeded",
        "removed": 204,
    }
    assert journey["cost"] == IMAGE_COST
    assert journey["picture"].startswith("image/")
    assert journey["library"] == [True]
    assert journey["entries"] == ["grant", "reserve", "charge"]
