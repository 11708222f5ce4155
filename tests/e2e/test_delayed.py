"""Methods of payment that settle days later: nothing on a promise, once when it is kept."""

from __future__ import annotations

import pytest

from tests.e2e.buyers import Buyer
from tests.e2e.world import World

PACK = {"pack_id": "starter"}
PLAN = {"plan_id": "pro", "interval": "month"}
each_wish = pytest.mark.parametrize(
    ("wish", "expected"), [(PACK, "10.000"), (PLAN, "30.000")], ids=["pack", "plan"]
)
each_loss = pytest.mark.parametrize("loss", ["drop", "swallow"])


@pytest.fixture(name="buyer")
def _buyer(world: World) -> Buyer:
    """Return a fresh user."""
    return Buyer(world)


@each_wish
def test_a_promise_grants_nothing_and_the_money_once(
    buyer: Buyer, wish: dict[str, str], expected: str
) -> None:
    """Complete but unpaid is pending; when the bank pays, the credits come, once."""
    session = buyer.checkout(**wish)
    buyer.happens("pay_delayed", session)
    assert (buyer.status(session), buyer.available) == ("pending", "0.000")

    buyer.happens("settle_delayed", session)

    assert (buyer.status(session), buyer.available) == ("paid", expected)
    buyer.world.stack.stripe.redeliver_undelivered()
    buyer.stripe.drain()
    assert buyer.person.movements() == ["grant"]


@each_wish
def test_a_broken_promise_grants_nothing_and_is_shown(
    buyer: Buyer, wish: dict[str, str], expected: str
) -> None:
    """The bank said no: failed, and no credits."""
    session = buyer.checkout(**wish)
    buyer.happens("pay_delayed", session)

    buyer.happens("settle_delayed", session, ok=False)

    assert (buyer.status(session), buyer.available) == ("failed", "0.000")
    assert buyer.buy(), f"and a pack can be bought, not {expected} for nothing"


@each_wish
def test_a_page_left_open_expires(buyer: Buyer, wish: dict[str, str], expected: str) -> None:
    """A page that nobody paid at is shown as expired."""
    session = buyer.checkout(**wish)
    assert buyer.status(session) == "open"

    buyer.happens("expire", session)

    assert (buyer.status(session), buyer.available) == ("expired", "0.000"), expected


def test_a_late_promise_does_not_undo_the_money(buyer: Buyer) -> None:
    """The unpaid completion is delivered after the payment: the session stays paid, granted once."""
    session = buyer.checkout(**PACK)
    buyer.stripe.webhook_faults.hold = ("checkout.session.completed",)
    buyer.happens("pay_delayed", session)
    buyer.happens("settle_delayed", session)
    assert buyer.status(session) == "paid"

    buyer.stripe.release()
    buyer.stripe.drain()

    assert (buyer.status(session), buyer.available) == ("paid", "10.000")


@each_loss
@each_wish
@pytest.mark.parametrize("ok", [True, False], ids=["paid", "failed"])
def test_both_webhooks_lost(
    buyer: Buyer, loss: str, wish: dict[str, str], expected: str, *, ok: bool
) -> None:
    """Neither the promise nor its end was heard: one comparison with Stripe knows the end."""
    setattr(buyer.stripe.webhook_faults, loss, ("*",))
    session = buyer.checkout(**wish)
    buyer.happens("pay_delayed", session)
    buyer.happens("settle_delayed", session, ok=ok)
    assert (buyer.status(session), buyer.available) == ("open", "0.000")

    assert buyer.world.reconcile()["is_complete"]

    assert buyer.status(session) == ("paid" if ok else "failed")
    assert buyer.available == (expected if ok else "0.000")


@pytest.mark.parametrize("ok", [True, False], ids=["paid", "failed"])
def test_an_end_after_days_is_found_by_the_late_pass(buyer: Buyer, *, ok: bool) -> None:
    """Of a promise made two weeks ago only the end was lost: the pass over what is that old finds it."""
    session = buyer.checkout(**PACK)
    buyer.happens("pay_delayed", session)
    buyer.stripe.webhook_faults.swallow = ("*",)
    buyer.happens("settle_delayed", session, ok=ok)
    buyer.stripe.state.get("checkout.session", session)["created"] -= 14 * 86_400 + 5

    buyer.world.reconcile()

    assert buyer.status(session) == ("paid" if ok else "failed")
    assert buyer.available == ("10.000" if ok else "0.000")


@each_loss
def test_an_expired_page_whose_webhook_was_lost(buyer: Buyer, loss: str) -> None:
    """The comparison closes what expired unheard."""
    setattr(buyer.stripe.webhook_faults, loss, ("*",))
    session = buyer.checkout(**PACK)
    buyer.happens("expire", session)
    assert buyer.status(session) == "open"

    buyer.world.reconcile()

    assert (buyer.status(session), buyer.available) == ("expired", "0.000")
