"""Events that wait, and the cursors of reconciliation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.billing import Stripe
from tests.clock import Clock
from tests.factories import Backend, new_key

CLAIM = "select * from backend.claim_parked(%s, %s)"
RECONCILE = "select backend.claim_reconciliation('sessions', 900, 60)"

pytestmark = pytest.mark.own_database


def _claim(backend: Backend, limit: int = 10, lease: int = 60) -> list[str]:
    return [row["event_id"] for row in backend.calls.execute(CLAIM, (limit, lease)).fetchall()]


def _park(backend: Backend) -> Any:
    checkout, event = backend.open_purchase(), new_key("evt")
    stranger = "11111111-1111-4111-8111-111111111111"
    assert backend.checkout_event(checkout, event=event, purchase_id=stranger) == "parked"
    return checkout, event


class TestParked:
    """Events whose purchase, user or price is not known yet."""

    def test_claimed(self, backend: Backend, clock: Clock) -> None:
        """A parked event is handed to one sweep at a time, with what is needed to read its object again."""
        _, event = _park(backend)

        (row,) = backend.calls.execute(CLAIM, (10, 60)).fetchall()

        assert (row["event_id"], row["type"], row["object_id"]) == (
            event,
            "checkout.session.completed",
            "obj",
        )
        assert row["parked_at"] == clock.now()
        assert _claim(backend) == []
        clock.advance(seconds=60)
        assert _claim(backend) == [event]

    def test_oldest_first(self, backend: Backend, clock: Clock) -> None:
        """Who waited longest since the last try comes first, so that nothing starves."""
        events = []
        for _ in range(3):
            events.append(_park(backend)[1])
            clock.advance(seconds=1)

        assert sorted(_claim(backend, 2)) == sorted(events[:2])
        assert _claim(backend, 2) == events[2:]
        clock.advance(minutes=5)
        assert sorted(_claim(backend, 2)) == sorted(events[:2])

    def test_takes_effect(self, backend: Backend, clock: Clock) -> None:
        """A retry takes effect when what was missing is there; before, it stays parked since the first time."""
        checkout, event = _park(backend)
        stranger = "22222222-2222-4222-8222-222222222222"
        clock.advance(minutes=1)
        assert backend.checkout_event(checkout, event=event, purchase_id=stranger) == "parked"

        kept = backend.db.row("select * from backend.stripe_events where id = %s", event)
        assert (kept["attempts"], kept["parked_at"]) == (2, clock.now() - timedelta(minutes=1))

        assert backend.checkout_event(checkout, event=event) == "granted"
        assert backend.checkout_event(checkout, event=event) == "duplicate"
        clock.advance(minutes=5)
        assert _claim(backend) == []

    def test_counted(self, backend: Backend, clock: Clock) -> None:
        """How many have waited for so long is known."""
        _park(backend)
        clock.advance(minutes=59)
        _park(backend)
        count = "select backend.parked_older_than(%s)"

        assert [backend.ledger.call(count, n) for n in (0, 3540, 3541)] == [2, 1, 0]

    def test_given_up(self, backend: Backend) -> None:
        """What is given up is tried no more, but still takes effect when delivered by hand."""
        checkout, event = _park(backend)
        give_up = "select backend.give_up_parked(%s)"

        assert backend.ledger.call(give_up, event) == "given_up"
        assert backend.ledger.call(give_up, event) == "not_parked"
        assert _claim(backend) == []
        assert backend.ledger.call("select backend.parked_older_than(0)") == 0
        assert backend.checkout_event(checkout, event=event) == "granted"
        assert backend.ledger.call(give_up, event) == "not_parked"

    def test_reconciled_meanwhile(self, backend: Backend) -> None:
        """When reconciliation was first, the retry finds it done."""
        checkout, event = _park(backend)
        _, session = checkout.event("paid")
        record = "select backend.record_checkout(null, %s::jsonb)"
        assert backend.ledger.call(record, session) == "granted"
        assert backend.ledger.call(record, session) == "already_granted"

        assert backend.checkout_event(checkout, event=event) == "already_granted"
        assert backend.ledger.kinds(checkout.user) == ["grant"]

    def test_reconciling_leaves_no_gate(self, backend: Backend) -> None:
        """Without an event no gate row is written."""
        _, session = backend.open_purchase().event("paid")
        backend.ledger.call("select backend.record_checkout('null', %s::jsonb)", session)

        assert backend.db.rows("select from backend.stripe_events") == []

    def test_event_without_an_id(self, backend: Backend) -> None:
        """An event without an id is our mistake, not a reason to skip the gate."""
        _, session = backend.open_purchase().event("paid")

        with pytest.raises(Exception, match="null value in column"):
            backend.ledger.call("select backend.record_checkout('{}', %s::jsonb)", session)


class TestReconciliation:
    """The cursors."""

    def test_turns(self, backend: Backend, clock: Clock) -> None:
        """One sweep at a time, from where the last one ended, when it is due."""
        began = clock.now()
        assert backend.ledger.call(RECONCILE) == began - timedelta(days=30)
        assert backend.ledger.call(RECONCILE) is None
        finish = "select backend.finish_reconciliation('sessions', %s)"
        backend.calls.execute(finish, (began,))
        assert backend.ledger.call(RECONCILE) is None

        clock.set(began + timedelta(seconds=899))
        assert backend.ledger.call(RECONCILE) is None
        clock.set(began + timedelta(seconds=900))
        assert backend.ledger.call(RECONCILE) == began

    def test_lost_sweep(self, backend: Backend, clock: Clock) -> None:
        """A sweep that did not finish within its lease is done again, from the same place."""
        since = backend.ledger.call(RECONCILE)
        clock.advance(seconds=60)

        assert backend.ledger.call(RECONCILE) == since

    def test_lost_halfway(self, backend: Backend, clock: Clock) -> None:
        """What a lost sweep got through is not done again; until its lease ends nobody else goes on."""
        since = backend.ledger.call(RECONCILE)
        halfway = since + timedelta(days=15)
        advance = "select backend.advance_reconciliation('sessions', %s)"
        backend.calls.execute(advance, (halfway,))
        backend.calls.execute(advance, (since,))
        assert backend.ledger.call(RECONCILE) is None

        clock.advance(seconds=60)

        assert backend.ledger.call(RECONCILE) == halfway

    def test_cursor_does_not_go_back(self, backend: Backend, clock: Clock) -> None:
        """A slow sweep that ends late does not move the cursor backwards."""
        backend.ledger.call(RECONCILE)
        finish = "select backend.finish_reconciliation('sessions', %s)"
        for back in (0, 1):
            backend.calls.execute(finish, (clock.now() - timedelta(hours=back),))

        assert backend.db.value("select since from backend.reconciliations") == clock.now()

    def test_names_are_apart(self, backend: Backend) -> None:
        """Each list has a cursor of its own."""
        backend.ledger.call(RECONCILE)

        assert backend.ledger.call("select backend.claim_reconciliation('other', 900, 60)")


UNFINISHED = "select kind, id from backend.list_unfinished(%s, 86400)"


class TestUnfinished:
    """What can still change at Stripe, and was not read for a day."""

    def _listed(self, stripe: Stripe, limit: int = 10) -> list[tuple[str, str]]:
        rows = stripe.ledger.calls.execute(UNFINISHED, (limit,)).fetchall()
        return [(row["kind"], row["id"]) for row in rows]

    def test_subscription(self, backend: Backend, clock: Clock) -> None:
        """A live subscription is read again once a day, an ended one no more."""
        stripe = Stripe(backend)
        price = stripe.price()
        stripe.subscribe(price)
        assert self._listed(stripe) == []

        clock.advance(days=1)
        assert self._listed(stripe) == [("subscription", stripe.subscription)]
        stripe.subscribe(price)
        assert self._listed(stripe) == []

        stripe.subscribe(price, "canceled")
        clock.advance(days=1)
        assert self._listed(stripe) == []

    def test_refund(self, backend: Backend, clock: Clock) -> None:
        """A refund can fail for a month after it succeeded; one under way is asked for until it is through."""
        stripe = Stripe(backend)
        stripe.reversal("pi_done", 5, "succeeded", 1)
        stripe.reversal("pi_waiting", 5, "pending", 2)
        done, waiting = (("refund", stripe.id("re", number)) for number in (1, 2))

        clock.advance(days=29)
        assert self._listed(stripe) == [done, waiting]
        clock.advance(days=1)
        assert self._listed(stripe) == [waiting]

    def test_dispute(self, backend: Backend, clock: Clock) -> None:
        """A dispute, even a lost one, may turn for half a year."""
        stripe = Stripe(backend)
        stripe.dispute("pi_1", 5, "lost")

        clock.advance(days=179)
        assert self._listed(stripe) == [("dispute", stripe.id("dp", 1))]
        clock.advance(days=1)
        assert self._listed(stripe) == []

    def test_longest_silence_first(self, backend: Backend, clock: Clock) -> None:
        """Of many, those that were not read for the longest time come first."""
        stripe = Stripe(backend)
        for number in (1, 2, 3):
            stripe.reversal(f"pi_{number}", 5, "pending", number)
            clock.advance(hours=1)
        stripe.reversal("pi_1", 5, "pending", 1)
        clock.advance(days=1)

        assert self._listed(stripe, 2) == [("refund", stripe.id("re", n)) for n in (2, 3)]
