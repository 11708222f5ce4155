"""One running product for each pytest process; a test keeps apart from others by its own fresh users."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.people import Person
from tests.e2e.world import World

TROUBLE = re.compile(r'"(WARNING|ERROR|CRITICAL)"|errorType|Traceback|timed out|Runtime\.')
"""What a log says when something went wrong, expected or not: shown with a test that failed."""


def pytest_configure(config: pytest.Config) -> None:
    """Name the one marker of this ring."""
    config.addinivalue_line("markers", "alarming: a function may report an unexpected error")


@pytest.fixture(name="world", scope="session")
def _world() -> Iterator[World]:
    """Start the product. When all tests are through, no secret may be found in what it said."""
    with World() as world:
        yield world
    assert world.leaks() == []


@pytest.fixture(autouse=True)
def _in_order(world: World, request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the books are right, and no function was surprised by anything."""
    before = len(world.stack.cloud.logs.text())
    yield
    world.calm()
    log = world.stack.cloud.logs.text()[before:]
    sys.stdout.writelines(f"{line}\n" for line in log.splitlines() if TROUBLE.search(line))
    assert world.audit() == []
    assert request.node.get_closest_marker("alarming") or "UnexpectedError" not in log


@pytest.fixture(name="alice")
def _alice(world: World) -> Person:
    """Return a fresh user with 10 credits."""
    return world.person("10")
