"""
A settle that meets its own reserve.

A result can arrive before the call that reserved for it has committed. `ledger.settle` looks for an open reservation,
and asks why when it finds none: in between the reserve may commit.
"""

from __future__ import annotations

import pytest

from tests.interleavings.explorer import Explorer
from tests.interleavings.scenarios import CALLS
from tests.interleavings.schedules import Call, Played, Scenario

SETUP = ("ledger.grant(%(user)s, 'pack', %(g1)s, 10)",)
CHARGES = {
    "reserve": ("refund new", "ledger.settle(%(new)s, 4)", "ledger.settle(%(new)s, 6)"),
    "free reserve": ("refund new",),
}
MEETINGS = [(reserve, settle) for reserve, all_ in CHARGES.items() for settle in all_]
RESERVE, SETTLE = 0, 1


@pytest.mark.parametrize(("reserve", "settle"), MEETINGS)
def test_reserve_commits_inside_a_settle(explorer: Explorer, reserve: str, settle: str) -> None:
    """A settle whose reserve commits between its two questions settles, like one that came a moment later."""
    played = _settle_around_commit(explorer, reserve, settle)

    assert played.result[0] == ("reserved", "settled")


@pytest.mark.parametrize("reserve", CHARGES)
def test_too_much_is_charged_inside(explorer: Explorer, reserve: str) -> None:
    """The same settle is refused as HF004 when it charges more than was reserved."""
    played = _settle_around_commit(explorer, reserve, "ledger.settle(%(new)s, 7)")

    assert played.result[0] == ("reserved", "error HF004")


def _settle_around_commit(explorer: Explorer, reserve: str, settle: str) -> Played:
    """Let the reserve get as far as its commit, the settle ask once, the reserve commit, the settle go on."""
    calls = (Call(CALLS[reserve]), Call(CALLS.get(settle, settle)))
    scenario = Scenario(f"{reserve} inside {settle}", SETUP, calls)
    alone = explorer.play(scenario, ())
    until_commit = [step.chosen for step in alone.steps].count(RESERVE) - 1
    choices = [*[RESERVE] * until_commit, SETTLE, RESERVE]

    played = explorer.play(scenario, choices)

    labels = [(step.chosen, step.label.partition(":")[0]) for step in played.steps]
    inside = labels[until_commit : until_commit + 3]
    assert inside == [(SETTLE, "settle"), (RESERVE, "commit"), (SETTLE, "settle")]
    asked, _, asked_why = played.steps[until_commit : until_commit + 3]
    assert "update public.credit_reservations" in asked.label
    assert "select public.credit_reservations" in asked_why.label
    return played
