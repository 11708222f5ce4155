from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest

from tests.clock import Clock
from tests.factories import Backend, Balance, Order, new_user
from tests.raising import raises_sqlstate
from tests.sql.amounts import NOT_AMOUNTS


class TestCreated:
    """A request that is taken."""

    def test_queued_and_reserved(self, backend: Backend) -> None:
        """A new generation is queued, its price reserved, and the answer says what is left."""
        user = new_user()
        backend.ledger.grant(user, 10)

        answer = backend.create(Order(user, cost="2.5"))

        assert (answer["outcome"], answer["status"]) == ("created", "queued")
        assert (answer["cost_credits"], answer["available_credits"]) == (
            Decimal("2.5"),
            Decimal("7.5"),
        )
        assert backend.ledger.balance(user).reserved == Decimal("2.5")
        assert backend.states(answer["generation_id"]) == ["queued"]
        assert backend.ledger.audit(user) == []

    def test_everything_is_kept(self, backend: Backend) -> None:
        """The request is kept byte for byte, the price as it was, the reservation under the same id."""
        user = new_user()
        backend.ledger.grant(user, 10)
        request = '{"prompt": "grüß dich",  "seed":1.50}'
        order = Order(user, 4, 2, kind="video", fields={"ratio": "1:1"}, request=request)

        generation = backend.create(order)["generation_id"]

        row = backend.generation(generation)
        assert (row["kind"], row["output_count"], row["fields"]) == ("video", 2, {"ratio": "1:1"})
        assert row["reservation_id"] == generation
        dispatch = backend.db.row(
            "select * from backend.dispatches where generation_id = %s", generation
        )
        assert dispatch["request"] == request
        assert dispatch["price"] == {"credits": "4"}
        assert dispatch["provider_generation_id"] is None

    def test_free(self, backend: Backend) -> None:
        """What costs nothing needs no balance."""
        user = new_user()

        answer = backend.create(Order(user, cost=0))

        assert (answer["outcome"], answer["available_credits"]) == ("created", 0)
        assert backend.ledger.audit(user) == []


class TestSameKey:
    """The client's idempotency key, used again."""

    def test_same_request(self, backend: Backend) -> None:
        """The same key and request answer with the first generation and reserve nothing."""
        user = new_user()
        backend.ledger.grant(user, 10)
        order = Order(user, 3)
        first = backend.create(order)

        second = backend.create(order)

        assert second["outcome"] == "existing"
        assert second["generation_id"] == first["generation_id"]
        assert backend.ledger.balance(user) == Balance(Decimal(7), Decimal(3), Decimal(0))

    def test_same_request_when_it_is_over(self, backend: Backend) -> None:
        """The key answers with its generation for ever: what it has become and what it cost then."""
        generation, _ = backend.storing(cost=3)
        backend.complete(generation, 1)
        row = backend.generation(generation)

        answer = backend.create(Order(row["user_id"], 99, key=row["idempotency_key"]))

        assert (answer["outcome"], answer["status"]) == ("existing", "succeeded")
        assert answer["cost_credits"] == 3

    def test_other_request(self, backend: Backend) -> None:
        """The same key with another request is a conflict and changes nothing."""
        user = new_user()
        backend.ledger.grant(user, 10)
        order = Order(user, 3)
        backend.create(order)

        answer = backend.create(replace(order, request_hash="other"))

        assert answer["outcome"] == "idempotency_conflict"
        assert backend.ledger.balance(user).available == 7

    def test_other_user(self, backend: Backend) -> None:
        """Keys are each user's own."""
        order = Order(new_user(), 0)
        backend.create(order)

        assert backend.create(replace(order, user=new_user()))["outcome"] == "created"

    @pytest.mark.parametrize(
        "limits",
        [{"max_active": 1}, {"per_hour": 1}, {"daily_credits": 3}, {"max_cost": 3}],
        ids=str,
    )
    def test_limits_do_not_stop_a_repetition(
        self, backend: Backend, limits: dict[str, int]
    ) -> None:
        """A repeated request is answered, whatever the limits say of new ones."""
        user = new_user()
        backend.ledger.grant(user, 10)
        order = replace(Order(user, 3), **limits)  # type: ignore[arg-type]
        assert backend.create(order)["outcome"] == "created"

        assert backend.create(replace(order, cost=4))["outcome"] == "existing"


class TestFind:
    """Looking a key up."""

    def test_by_key(self, backend: Backend) -> None:
        """The generation of a key is found with the hash it was made with, by its user only."""
        user = new_user()
        backend.ledger.grant(user, 10)
        order = Order(user, 3)
        made = backend.create(order)

        found = backend.find(user, order.key)

        assert found == {
            "generation_id": made["generation_id"],
            "request_hash": "hash",
            "status": "queued",
            "cost_credits": 3,
            "available_credits": 7,
        }
        assert set(backend.find(new_user(), order.key).values()) == {None}


class TestInsufficient:
    """Too few credits."""

    def test_nothing_is_kept(self, backend: Backend) -> None:
        """Refused for credits no row remains, so the same key works after a top-up."""
        user = new_user()
        backend.ledger.grant(user, 2)
        order = Order(user, 3)

        answer = backend.create(order)

        assert answer["outcome"] == "insufficient_credits"
        assert answer["generation_id"] is None
        assert (answer["cost_credits"], answer["available_credits"]) == (3, 2)
        assert backend.db.rows("select from generations where user_id = %s", user) == []
        assert backend.ledger.kinds(user) == ["grant"]

        backend.ledger.grant(user, 1)
        assert backend.create(order)["outcome"] == "created"

    def test_refusals_do_not_count(self, backend: Backend) -> None:
        """What was refused for credits does not use up the hourly limit."""
        user = new_user()
        for _ in range(3):
            backend.create(Order(user, 3, per_hour=1))
        backend.ledger.grant(user, 3)

        assert backend.create(Order(user, 3, per_hour=1))["outcome"] == "created"


class TestLimits:
    """Limits of active and hourly generations."""

    def test_too_many_active(self, backend: Backend) -> None:
        """Beyond the limit of unfinished generations none starts; a finished one makes room."""
        user = new_user()
        first = backend.create(Order(user, 0, max_active=2))["generation_id"]
        backend.create(Order(user, 0, max_active=2))

        refused = backend.create(Order(user, 0, max_active=2))
        assert (refused["outcome"], refused["generation_id"]) == ("too_many_active", None)
        assert refused["retry_after_seconds"] > 0

        backend.refuse(first)
        assert backend.create(Order(user, 0, max_active=2))["outcome"] == "created"

    @pytest.mark.own_database
    def test_too_many_in_an_hour(self, backend: Backend, clock: Clock) -> None:
        """Beyond the hourly limit the answer says in how many seconds there is room, and then there is."""
        user = new_user()
        backend.refuse(backend.create(Order(user, 0, per_hour=2))["generation_id"])
        clock.advance(minutes=45)
        backend.create(Order(user, 0, per_hour=2))

        refused = backend.create(Order(user, 0, per_hour=2))
        assert (refused["outcome"], refused["retry_after_seconds"]) == ("rate_limited", 15 * 60)

        clock.advance(minutes=15)
        assert backend.create(Order(user, 0, per_hour=2))["outcome"] == "created"

    @pytest.mark.own_database
    def test_a_lowered_hourly_limit(self, backend: Backend, clock: Clock) -> None:
        """Of three starts under a limit of now one, the last has to leave the hour: it says when."""
        user = new_user()
        for _ in range(3):
            backend.create(Order(user, 0))
            clock.advance(minutes=10)

        refused = backend.create(Order(user, 0, per_hour=1))
        assert (refused["outcome"], refused["retry_after_seconds"]) == ("rate_limited", 50 * 60)

        clock.advance(minutes=50)
        assert backend.create(Order(user, 0, per_hour=1))["outcome"] == "created"

    @pytest.mark.own_database
    def test_too_much_in_a_day(self, backend: Backend, clock: Clock) -> None:
        """Beyond the daily limit the answer says when there is room for this price, and then there is."""
        user = new_user()
        backend.ledger.grant(user, 100)
        for cost in (4, 3, 2):
            order = Order(user, cost, daily_credits=10)
            assert backend.create(order)["outcome"] == "created"
            clock.advance(hours=1)

        small, large = (Order(user, cost, daily_credits=10) for cost in (2, 6))
        first, second = backend.create(small), backend.create(large)
        assert (first["outcome"], first["retry_after_seconds"]) == ("daily_limit", 21 * 3600)
        assert (second["outcome"], second["retry_after_seconds"]) == ("daily_limit", 22 * 3600)
        assert backend.ledger.balance(user).available == 91, "nothing was reserved"

        clock.advance(hours=20, minutes=59)
        assert backend.create(small)["outcome"] == "daily_limit"
        clock.advance(minutes=1)
        assert backend.create(small)["outcome"] == "created"

    def test_a_day_counts_what_was_charged(self, backend: Backend) -> None:
        """What was refunded makes room again; what runs counts in full; the limit itself may be spent."""
        user = new_user()
        backend.ledger.grant(user, 100)
        order = Order(user, 6, daily_credits=10)
        refunded = backend.create(order)["generation_id"]
        assert backend.create(replace(order, key="b"))["outcome"] == "daily_limit"

        backend.refuse(refunded)

        assert backend.create(replace(order, key="b"))["outcome"] == "created"
        assert backend.create(replace(order, key="c", cost=4))["outcome"] == "created"

    def test_dearer_than_a_day(self, backend: Backend) -> None:
        """What alone is over the daily limit is refused without a time at which it would not be."""
        user = new_user()
        backend.ledger.grant(user, 100)

        answer = backend.create(Order(user, 11, daily_credits=10))

        assert (answer["outcome"], answer["retry_after_seconds"]) == ("daily_limit", None)

    def test_dearer_than_shown(self, backend: Backend) -> None:
        """A price over what the user agreed to reserves nothing and says the new price."""
        user = new_user()
        backend.ledger.grant(user, 10)
        order = Order(user, "3.001", max_cost=3)

        answer = backend.create(order)

        assert (answer["outcome"], answer["cost_credits"]) == ("price_changed", Decimal("3.001"))
        assert answer["generation_id"] is None
        assert backend.ledger.kinds(user) == ["grant"]
        assert backend.create(replace(order, max_cost="3.001"))["outcome"] == "created"

    def test_limits_are_each_users_own(self, backend: Backend) -> None:
        """One user's generations do not count for another."""
        backend.create(Order(new_user(), 0, max_active=1, per_hour=1))

        answer = backend.create(Order(new_user(), 0, max_active=1, per_hour=1))

        assert answer["outcome"] == "created"


class TestRefused:
    """Requests that cannot be."""

    @pytest.mark.parametrize("cost", NOT_AMOUNTS.values(), ids=NOT_AMOUNTS)
    def test_not_an_amount(self, backend: Backend, cost: str) -> None:
        """A price that is no amount raises HF001 and keeps nothing."""
        user = new_user()
        backend.ledger.grant(user, 10)

        with raises_sqlstate("HF001"):
            backend.create(Order(user, cost))

        assert backend.ledger.kinds(user) == ["grant"]

    @pytest.mark.parametrize("change", [{"output_count": 0}, {"kind": "audio"}], ids=str)
    def test_impossible_order(self, backend: Backend, change: dict[str, object]) -> None:
        """An order no table holds fails whole: nothing stays reserved."""
        user = new_user()
        backend.ledger.grant(user, 10)

        with pytest.raises(psycopg.errors.CheckViolation):
            backend.create(replace(Order(user, 3), **change))  # type: ignore[arg-type]

        assert backend.ledger.balance(user).available == 10

    @pytest.mark.own_database
    def test_expired_credits(self, backend: Backend, clock: Clock) -> None:
        """Credits that expired a moment ago pay for nothing, and the answer shows them gone."""
        user = new_user()
        backend.ledger.grant(user, 10, expires_at=clock.now() + timedelta(days=1))
        clock.advance(days=1)

        answer = backend.create(Order(user, 3))

        assert answer["outcome"] == "insufficient_credits"
        assert answer["available_credits"] == 0
        assert backend.ledger.audit() == []
