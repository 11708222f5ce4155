"""Two and three calls at once, in every order of their statements."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interleavings.scenarios import PAIRS, TRIPLES, scenarios
from tests.interleavings.schedules import Scenario
from tests.ledger_profile import FULL, TIMEOUT_SECONDS

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)

SWITCHES = 1
"""
How often a session may be left that could have gone on, in a short run; waiting for a lock does not count.

One switch puts a beginning of one call before the whole of the other; without a bound every order is played.
"""
SWITCHES_OF_TWO_USERS = 3
"""Two users wait for each other at the end only, if at all: their orders are tens of thousands, nearly all alike."""
SWITCHES_OF_A_SEAL = 2
"""A seal waits for nobody and nobody for it, so its orders would be as many."""

Explore = Callable[[Scenario, int | None], None]


@pytest.mark.parametrize("scenario", scenarios(PAIRS), ids=lambda scenario: scenario.name)
def test_pair(explore: Explore, scenario: Scenario) -> None:
    """Whatever order two calls get through in, it ends as if they had come one after the other."""
    full = SWITCHES_OF_TWO_USERS if scenario.two_users else None
    full = SWITCHES_OF_A_SEAL if scenario.seals else full
    explore(scenario, full if FULL else SWITCHES)


@pytest.mark.parametrize(
    "scenario", scenarios(TRIPLES if FULL else TRIPLES[::7]), ids=lambda scenario: scenario.name
)
def test_triple(explore: Explore, scenario: Scenario) -> None:
    """Whatever order three calls get through in, it ends as if they had come one after another."""
    explore(scenario, SWITCHES)
