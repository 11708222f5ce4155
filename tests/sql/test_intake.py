"""The intake: closed for everybody while the operator is out of credits, and open again by itself."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.clock import Clock
from tests.factories import Backend, Balance, Order, new_user

pytestmark = pytest.mark.own_database


def ask(backend: Backend, order: Order | None = None) -> tuple[str, int | None]:
    """Try to create a generation; return the outcome and when to come back."""
    order = order or Order(new_user(), 0)
    created = backend.create(order)
    return created["outcome"], created["retry_after_seconds"]


def test_closed_for_everybody(backend: Backend, clock: Clock) -> None:
    """Nobody's request is taken, nothing is reserved, and the answer says when to come back."""
    backend.close_intake(backend.queued())
    user = new_user()
    backend.ledger.grant(user, 10)
    clock.advance(seconds=20)

    assert ask(backend, Order(user, 3)) == ("intake_closed", 40)
    assert backend.ledger.balance(user) == Balance(Decimal(10), Decimal(0), Decimal(0))


def test_a_repeated_request_is_answered(backend: Backend) -> None:
    """What was accepted before the closure is the same generation still."""
    order = Order(new_user(), 0)
    backend.create(order)
    backend.close_intake(backend.queued())
    assert ask(backend, order)[0] == "existing"


def test_half_open(backend: Backend, clock: Clock) -> None:
    """After the closure one generation tries; the others wait half a minute for what becomes of it."""
    backend.close_intake(backend.queued())
    clock.advance(seconds=60)
    assert ask(backend) == ("created", None)
    assert ask(backend) == ("intake_closed", 30)


def test_half_open_is_not_spent_on_a_refusal(backend: Backend, clock: Clock) -> None:
    """A user without credits does not use up the one try."""
    backend.close_intake(backend.queued())
    clock.advance(seconds=60)
    assert ask(backend, Order(new_user(), 3))[0] == "insufficient_credits"
    assert ask(backend)[0] == "created"


def test_an_accepted_try_opens(backend: Backend, clock: Clock) -> None:
    """The provider took what was asked for after the closure: open for all."""
    backend.close_intake(backend.queued())
    clock.advance(seconds=60)
    tried = backend.create(Order(new_user(), 0))["generation_id"]
    backend.submit(tried, "gen:1")
    assert ask(backend)[0] == "created"
    assert backend.intake()["is_closed"] is False


def test_an_older_acceptance_opens_nothing(backend: Backend, clock: Clock) -> None:
    """What was asked for before the closure says nothing about now."""
    older = backend.queued()
    clock.advance(seconds=1)
    backend.close_intake(backend.queued())
    backend.submit(older, "gen:1")
    assert ask(backend)[0] == "intake_closed"


def test_each_closure_is_longer(backend: Backend, clock: Clock) -> None:
    """A minute, doubled with each refused try, up to a quarter of an hour; opening starts over."""
    waits = []
    for _ in range(6):
        generation = backend.create(Order(new_user(), 0))["generation_id"]
        closed = backend.close_intake(generation)["closed_until"]
        waits.append(int((closed - clock.now()).total_seconds()))
        clock.advance(seconds=waits[-1])
    assert waits == [60, 120, 240, 480, 900, 900]

    assert backend.calls.execute("select backend.open_intake() as o").fetchone() == {"o": True}
    generation = backend.queued()
    assert backend.close_intake(generation)["closures"] == 1


def test_refused_at_the_same_moment(backend: Backend, clock: Clock) -> None:
    """Twenty that were under way together close it once."""
    together = [backend.queued() for _ in range(20)]
    clock.advance(seconds=1)
    assert {backend.close_intake(each)["closures"] for each in together} == {1}


def test_what_closed_it(backend: Backend) -> None:
    """The sweep learns which request to ask the price of."""
    assert backend.intake()["is_closed"] is False
    backend.close_intake(backend.queued())
    intake = backend.intake()
    assert (intake["is_closed"], intake["model"]) == (True, "baby/one")
    assert intake["request"] == '{"prompt":"a red fox"}'
