"""One running product for each pytest process; a test keeps apart from others by its own fresh users."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.e2e.support import Person, World


@pytest.fixture(name="world", scope="session")
def _world() -> Iterator[World]:
    """Start the product. When all tests are through, no secret may be found in what it said."""
    with World() as world:
        yield world
    assert world.leaks() == []


@pytest.fixture(autouse=True)
def _in_order(world: World) -> Iterator[None]:
    """After each test the books are right, and no function was surprised by anything."""
    before = len(world.stack.cloud.logs.text())
    yield
    world.calm()
    assert world.audit() == []
    assert "UnexpectedError" not in world.stack.cloud.logs.text()[before:]


@pytest.fixture(name="new_person")
def _new_person(world: World) -> Callable[..., Person]:
    """Return a function that signs people up, with credits if asked."""
    return world.person


@pytest.fixture(name="alice")
def _alice(world: World) -> Person:
    """Return a fresh user with 10 credits."""
    return world.person("10")
