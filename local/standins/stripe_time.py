"""The passing of time: what falls due is done in order, each at its own moment."""

from __future__ import annotations

from collections.abc import Callable

from local.standins import stripe_lifecycle, stripe_payer
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json


def advance(state: State, seconds: int) -> int:
    """Move the account's clock forward; returns the new present."""
    if seconds < 0:
        raise ValueError("the clock never goes backwards")
    target = state.now() + seconds
    while due := _next_due(state, target):
        at, happen, thing = due
        state.clock.move_to(at)
        happen(state, thing)
    state.clock.move_to(target)
    return state.now()


def _next_due(state: State, until: int) -> tuple[int, Callable[[State, Json], object], Json] | None:
    due: list[tuple[int, Callable[[State, Json], object], Json]] = [
        (session["expires_at"], stripe_payer.expire, session)
        for session in state.newest("checkout.session")
        if session["status"] == "open"
    ]
    for each in reversed(state.newest("subscription")):
        at = stripe_lifecycle.due_at(each)
        if at is not None:
            due.append((at, stripe_lifecycle.renew, each))
    first = min(due, key=lambda one: one[0], default=None)
    return first if first and first[0] <= until else None
