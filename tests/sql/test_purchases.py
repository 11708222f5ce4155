from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.clock import Clock
from tests.database import Connection
from tests.factories import RECORD_CHECKOUT, Backend, Balance, Checkout, new_key, new_user
from tests.racing import race
from tests.raising import raises_sqlstate
from tests.sql.amounts import NOT_AMOUNTS

NOBODY = "11111111-1111-4111-8111-111111111111"


class TestCreatePurchase:
    """Before the payment session."""

    def test_created(self, backend: Backend) -> None:
        """A purchase is written before any session exists, and grants nothing."""
        user = new_user()

        answer = backend.purchase(user)

        assert answer["outcome"] == "created"
        purchase = backend.db.row("select * from purchases where id = %s", answer["purchase_id"])
        assert (purchase["user_id"], purchase["status"]) == (user, "created")
        assert purchase["stripe_session_id"] is None
        assert backend.ledger.balance(user).available == 0

    def test_too_many_in_an_hour(self, backend: Backend) -> None:
        """Beyond the hourly limit a purchase is refused, and nobody else is."""
        user = new_user()
        for _ in range(2):
            assert backend.purchase(user, per_hour=2)["outcome"] == "created"

        answer = backend.purchase(user, per_hour=2)

        assert answer["outcome"] == "rate_limited"
        assert answer["purchase_id"] is None
        assert 3590 <= answer["retry_after_seconds"] <= 3600
        assert backend.purchase(new_user(), per_hour=2)["outcome"] == "created"

    @pytest.mark.own_database
    def test_limit_ends_with_the_hour(self, backend: Backend, clock: Clock) -> None:
        """After the seconds it was told, a user may buy again."""
        user = new_user()
        backend.purchase(user, per_hour=1)
        clock.advance(minutes=20)
        wait = backend.purchase(user, per_hour=1)["retry_after_seconds"]

        assert wait == 40 * 60
        clock.advance(seconds=wait - 1)
        assert backend.purchase(user, per_hour=1)["outcome"] == "rate_limited"
        clock.advance(seconds=1)
        assert backend.purchase(user, per_hour=1)["outcome"] == "created"

    @pytest.mark.parametrize("credits_", ["0", *NOT_AMOUNTS.values()], ids=["zero", *NOT_AMOUNTS])
    def test_credits_that_could_not_be_granted(self, backend: Backend, credits_: str) -> None:
        """What the ledger would not grant is not sold."""
        user = new_user()

        with raises_sqlstate("HF001"):
            backend.purchase(user, credits_)

        assert backend.db.rows("select from purchases where user_id = %s", user) == []

    def test_free_pack(self, backend: Backend) -> None:
        """A pack without a price is refused."""
        with pytest.raises(psycopg.errors.CheckViolation):
            backend.purchase(new_user(), amount_minor=0)

    @pytest.mark.parametrize(
        ("kind", "interval"), [("pack", "month"), ("plan", None), ("gift", None), ("plan", "week")]
    )
    def test_kind_and_interval(self, backend: Backend, kind: str, interval: str | None) -> None:
        """Plans have an interval, packs none, and there is nothing else."""
        with pytest.raises(psycopg.errors.CheckViolation):
            backend.calls.execute(
                "select backend.create_purchase(%s, %s, 'x', %s, 1, 1, 'usd', 9)",
                (new_user(), kind, interval),
            )

    @pytest.mark.own_database
    def test_priority_and_expiry(self, backend: Backend, clock: Clock) -> None:
        """A pack's credits have the priority it was sold with and live so long from their payment."""
        user = new_user()
        purchase = backend.ledger.call(
            "select (backend.create_purchase(%s, 'pack', 'x', null, 1, 1000, 'usd', 9, 70, 90)).purchase_id",
            user,
        )
        clock.advance(days=2)
        assert backend.checkout_event(Checkout(user, purchase, new_key(), 1000)) == "granted"

        (grant,) = backend.ledger.grants(user).values()
        assert (grant["priority"], grant["expires_at"]) == (70, clock.now() + timedelta(days=90))


class TestAttachSession:
    """The payment session is made."""

    def test_attached(self, backend: Backend) -> None:
        """The session is noted, the purchase opens, and the same again changes nothing."""
        checkout = backend.open_purchase()

        assert _status(backend, checkout.purchase) == "open"
        assert backend.attach(checkout.purchase, checkout.session) == "attached"

    def test_other_session(self, backend: Backend) -> None:
        """A purchase keeps its first session."""
        checkout = backend.open_purchase()

        assert backend.attach(checkout.purchase, new_key("cs_test")) == "not_found"

    def test_unknown_purchase(self, backend: Backend) -> None:
        """An unknown purchase is not_found."""
        assert backend.attach(uuid4(), new_key("cs_test")) == "not_found"

    def test_session_of_another_purchase(self, backend: Backend) -> None:
        """One session pays one purchase."""
        checkout = backend.open_purchase()
        other = backend.purchase(new_user())["purchase_id"]

        with pytest.raises(psycopg.errors.UniqueViolation):
            backend.attach(other, checkout.session)

    def test_after_the_webhook(self, backend: Backend) -> None:
        """When the webhook was first, the purchase stays paid."""
        checkout = backend.open_purchase()
        backend.checkout_event(checkout)

        assert backend.attach(checkout.purchase, checkout.session) == "attached"
        assert _status(backend, checkout.purchase) == "paid"


class TestGetCheckout:
    """A user looks at the session."""

    def test_own(self, backend: Backend, functions: Connection) -> None:
        """A user sees the state of their own session."""
        checkout = backend.open_purchase()

        row = functions.execute(
            "select * from backend.get_checkout(%s, %s)", (checkout.user, checkout.session)
        ).fetchone()

        assert row is not None
        assert (row["purchase_id"], row["status"]) == (checkout.purchase, "open")

    def test_others(self, backend: Backend, functions: Connection) -> None:
        """Another user's session is no row, like one that does not exist."""
        checkout = backend.open_purchase()

        for user, session in ((new_user(), checkout.session), (checkout.user, "cs_none")):
            found = functions.execute(
                "select * from backend.get_checkout(%s, %s)", (user, session)
            ).fetchall()
            assert found == []


class TestCheckoutEvent:
    """What the payment provider says of a session."""

    def test_paid(self, backend: Backend) -> None:
        """A paid session grants what the purchase says and notes the payment."""
        checkout = backend.open_purchase(credits_=25)

        assert backend.checkout_event(checkout, "paid") == "granted"

        assert backend.ledger.balance(checkout.user).available == 25
        grants = backend.ledger.grants(checkout.user)
        assert list(grants) == [f"cs:{checkout.session}"]
        purchase = backend.db.row("select * from purchases where id = %s", checkout.purchase)
        assert purchase["status"] == "paid"
        assert purchase["stripe_payment_intent_id"] == f"pi_{checkout.session}"
        assert purchase["paid_at"] is not None

    def test_paid_before_the_session_is_attached(self, backend: Backend) -> None:
        """A webhook quicker than our own note of the session grants, and notes it itself."""
        checkout = backend.open_purchase()
        backend.db.connection("postgres").execute(
            "update purchases set stripe_session_id = null, status = 'created' where id = %s",
            (checkout.purchase,),
        )

        assert backend.checkout_event(checkout) == "granted"
        assert backend.attach(checkout.purchase, checkout.session) == "attached"
        assert _status(backend, checkout.purchase) == "paid"

    def test_same_event_again(self, backend: Backend) -> None:
        """The same event is a duplicate, as often as it comes."""
        checkout = backend.open_purchase()
        event = new_key("evt")
        assert backend.checkout_event(checkout, event=event) == "granted"

        assert [backend.checkout_event(checkout, event=event) for _ in range(3)] == [
            "duplicate"
        ] * 3
        assert backend.ledger.kinds(checkout.user) == ["grant"]

    def test_two_events_of_one_session(self, backend: Backend) -> None:
        """`completed` and `async_payment_succeeded` of one session grant once."""
        checkout = backend.open_purchase()

        outcomes = [
            backend.checkout_event(checkout) for _ in ("completed", "async_payment_succeeded")
        ]

        assert outcomes == ["granted", "already_granted"]
        assert backend.ledger.kinds(checkout.user) == ["grant"]

    @pytest.mark.parametrize(
        ("states", "outcomes", "status"),
        [
            (["pending", "paid"], ["pending", "granted"], "paid"),
            (["pending", "failed"], ["pending", "closed"], "failed"),
            (["expired"], ["closed"], "expired"),
            (["failed", "paid"], ["closed", "granted"], "paid"),
            (["paid", "pending"], ["granted", "already_granted"], "paid"),
            (["paid", "failed"], ["granted", "already_granted"], "paid"),
            (["paid", "expired"], ["granted", "already_granted"], "paid"),
            (["failed", "pending"], ["closed", "pending"], "failed"),
            (["expired", "failed"], ["closed", "closed"], "expired"),
            (["refunded"], ["ignored"], "open"),
        ],
        ids="-".join,
    )
    def test_order_of_states(
        self, backend: Backend, states: list[str], outcomes: list[str], status: str
    ) -> None:
        """Paid wins over everything, in any order; nothing else moves backwards or grants."""
        checkout = backend.open_purchase()

        found = [backend.checkout_event(checkout, state) for state in states]

        assert found == outcomes
        assert _status(backend, checkout.purchase) == status
        assert backend.ledger.balance(checkout.user).available == (10 if "paid" in states else 0)

    @pytest.mark.parametrize(
        ("change", "outcome"),
        [
            ({"purchase_id": NOBODY}, "parked"),
            ({"purchase_id": "1; drop table purchases"}, "ignored"),
            ({"purchase_id": None}, "ignored"),
            ({"id": "cs_other"}, "session_mismatch"),
            ({"mode": "subscription"}, "session_mismatch"),
            ({"mode": "setup"}, "ignored"),
            ({"user_id": NOBODY}, "user_mismatch"),
            ({"user_id": "not-a-user"}, "user_mismatch"),
            ({"user_id": None}, "user_mismatch"),
            ({"amount_minor": 999}, "amount_mismatch"),
            ({"amount_minor": None}, "amount_mismatch"),
            ({"currency": "eur"}, "currency_mismatch"),
            ({"currency": None}, "currency_mismatch"),
        ],
        ids=str,
    )
    def test_event_that_contradicts_the_purchase(
        self, backend: Backend, change: dict[str, Any], outcome: str
    ) -> None:
        """A signed event whose content is not the purchase's grants nothing and says why."""
        checkout = backend.open_purchase()
        event = new_key("evt")

        assert backend.checkout_event(checkout, event=event, **change) == outcome

        assert backend.ledger.balance(checkout.user) == Balance(0, 0, 0)  # type: ignore[arg-type]
        assert _status(backend, checkout.purchase) == "open"
        kept = backend.db.row("select outcome from backend.stripe_events where id = %s", event)
        assert kept["outcome"] == outcome

    def test_unknown_purchase_may_be_known_later(self, backend: Backend) -> None:
        """An event parked for its purchase takes effect when it is delivered again."""
        checkout = backend.open_purchase()
        event = new_key("evt")
        backend.checkout_event(checkout, event=event, purchase_id=str(uuid4()))

        assert backend.checkout_event(checkout, event=event) == "granted"
        assert backend.checkout_event(checkout, event=event) == "duplicate"

    def test_any_case_of_an_id(self, backend: Backend) -> None:
        """Only the spelling we sent is ours: an id in capitals is nobody's."""
        checkout = backend.open_purchase()

        outcome = backend.checkout_event(checkout, purchase_id=str(checkout.purchase).upper())

        assert outcome == "ignored" or str(checkout.purchase).isdecimal()


class TestGate:
    """Gate and effect share one transaction."""

    def test_parallel_copies(self, backend: Backend) -> None:
        """Twenty copies of one event at once: one grants, the others are duplicates."""
        checkout = backend.open_purchase()
        event = checkout.event("paid")

        outcomes = race(backend.db, 20, RECORD_CHECKOUT, lambda _: event)

        assert sorted(outcomes) == ["duplicate"] * 19 + ["granted"]
        assert backend.ledger.balance(checkout.user).available == 10
        assert backend.ledger.audit(checkout.user) == []

    def test_parallel_events_of_one_session(self, backend: Backend) -> None:
        """Ten different events of one session at once grant once."""
        checkout = backend.open_purchase()

        outcomes = race(backend.db, 10, RECORD_CHECKOUT, lambda _: checkout.event("paid"))

        assert sorted(outcomes) == ["already_granted"] * 9 + ["granted"]
        assert backend.ledger.balance(checkout.user).available == 10

    def test_rolled_back(self, backend: Backend) -> None:
        """A transaction that ends before its commit leaves neither the gate nor the grant."""
        checkout = backend.open_purchase()
        event = new_key("evt")
        with backend.db.connect("holdfast_backend") as dying:
            dying.autocommit = False
            dying.execute(RECORD_CHECKOUT, checkout.event("paid", event))
            pid = dying.info.backend_pid
            backend.db.connection("supabase_admin").execute(
                "select pg_terminate_backend(%s)", (pid,)
            )
            with pytest.raises(psycopg.OperationalError):
                dying.commit()
            dying.close()

        assert backend.db.rows("select from backend.stripe_events where id = %s", event) == []
        assert backend.ledger.balance(checkout.user).available == 0
        assert backend.checkout_event(checkout, event=event) == "granted"

    @pytest.mark.own_database
    def test_failure_between_gate_and_grant(self, backend: Backend, superuser: Connection) -> None:
        """When the grant fails the gate stays open, so that the retry grants."""
        checkout = backend.open_purchase()
        event = new_key("evt")
        superuser.execute("""
            create function public.fail() returns trigger language plpgsql as
              $$ begin raise exception 'disk full' using errcode = '53100'; end $$;
            create trigger fail before insert on credit_grants execute function public.fail()
        """)

        with raises_sqlstate("53100"):
            backend.checkout_event(checkout, event=event)
        assert backend.db.rows("select from backend.stripe_events") == []
        assert _status(backend, checkout.purchase) == "open"

        superuser.execute("drop trigger fail on credit_grants")
        assert backend.checkout_event(checkout, event=event) == "granted"
        assert backend.ledger.audit() == []

    @pytest.mark.own_database
    def test_purchase_keeps_its_hour(self, backend: Backend, clock: Clock) -> None:
        """A payment that takes days grants what was bought then."""
        checkout = backend.open_purchase(credits_=7)
        clock.set(clock.now() + timedelta(days=14))

        assert backend.checkout_event(checkout) == "granted"
        assert backend.ledger.balance(checkout.user).available == 7


def _status(backend: Backend, purchase: object) -> str:
    return str(backend.db.value("select status from purchases where id = %s", purchase))
