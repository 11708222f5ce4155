"""Generations under real connections that do things at the same moment."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.factories import CREATE_GENERATION, Backend, Balance, Order, new_key, new_user, outputs
from tests.racing import Step, first_value, outcome_or_sqlstate, race, race_steps

CALLBACK = "select (backend.record_callback(%s, 'e', %s, %s::jsonb)).outcome"
SUBMIT = "select (backend.mark_submitted(%s, %s)).outcome"
COMPLETE = "select backend.complete_generation(%s, %s::jsonb)"
SUCCEEDED = json.dumps({"status": "succeeded", "output_urls": ["https://media.test/0.png"]})
FAILED = json.dumps({"status": "failed"})


def call(query: Any, *params: object) -> Step:
    """Return a step that runs one statement and returns its outcome, or the SQLSTATE it raised."""
    return outcome_or_sqlstate(lambda connection: first_value(connection, query, params))


class TestCreate:
    """One key, one balance and one limit under many requests."""

    def test_double_clicks(self, backend: Backend) -> None:
        """Twenty copies of one request make one generation and one reservation."""
        order = Order(new_user(), 3)
        backend.ledger.grant(order.user, 100)

        outcomes = race(backend.db, 20, CREATE_GENERATION, lambda _: order.params())

        assert Counter(outcomes) == {"created": 1, "existing": 19}
        assert (
            backend.db.value("select count(*) from generations where user_id = %s", order.user) == 1
        )
        assert backend.ledger.balance(order.user) == Balance(Decimal(97), Decimal(3), Decimal(0))

    def test_double_clicks_with_too_few_credits(self, backend: Backend) -> None:
        """Copies refused for credits leave nothing behind, and the key is still free."""
        order = Order(new_user(), 3)
        backend.ledger.grant(order.user, 2)

        outcomes = race(backend.db, 10, CREATE_GENERATION, lambda _: order.params())

        assert set(outcomes) == {"insufficient_credits"}
        backend.ledger.grant(order.user, 1)
        assert backend.create(order)["outcome"] == "created"

    @pytest.mark.parametrize(
        ("limit", "outcome"), [("max_active", "too_many_active"), ("per_hour", "rate_limited")]
    )
    def test_limits(self, backend: Backend, limit: str, outcome: str) -> None:
        """Parallel requests never exceed a limit, not by one."""
        user = new_user()

        outcomes = race(
            backend.db,
            20,
            CREATE_GENERATION,
            lambda _: Order(user, 0, **{limit: 5}).params(),  # type: ignore[arg-type]
        )

        assert Counter(outcomes) == {"created": 5, outcome: 15}

    def test_exactly_what_the_credits_allow(self, backend: Backend) -> None:
        """Parallel requests start as many jobs as the balance pays for."""
        user = new_user()
        backend.ledger.grant(user, 10)

        outcomes = race(backend.db, 20, CREATE_GENERATION, lambda _: Order(user, 3).params())

        assert Counter(outcomes) == {"created": 3, "insufficient_credits": 17}
        assert backend.ledger.audit(user) == []

    @pytest.mark.parametrize(
        ("query", "params"),
        [
            ("select (backend.create_purchase(%s, 'pack', 'p', null, 1, 1, 'usd', 5)).outcome", ()),
            ("select (backend.create_asset(%s, 'image/png', 1, 5)).outcome", ()),
        ],
        ids=["purchases", "assets"],
    )
    def test_other_hourly_limits(self, backend: Backend, query: Any, params: tuple[()]) -> None:
        """Purchases and uploads keep their limits as well."""
        user = new_user()

        outcomes = race(backend.db, 20, query, lambda _: (user, *params))

        assert Counter(outcomes) == {"created": 5, "rate_limited": 15}


class TestSubmitAndCallback:
    """Our note of the provider's id against what the provider sends."""

    @pytest.mark.parametrize("status", [SUCCEEDED, FAILED], ids=["succeeded", "failed"])
    def test_no_callback_is_lost(self, backend: Backend, status: str) -> None:
        """Our note of the provider's id and its first callback, at once, many times: always applied."""
        orders = Counter[str]()
        for _ in range(40):
            generation, provider_id = backend.queued(cost=0), new_key("gen")

            submitted, outcome = race_steps(
                backend.db,
                [
                    call(SUBMIT, generation, provider_id),
                    call(CALLBACK, new_key(), provider_id, status),
                ],
            )

            orders[outcome] += 1
            assert submitted == "submitted"
            assert outcome in {"applied", "parked"}
            assert backend.status(generation) == ("storing" if status == SUCCEEDED else "failed")

    @pytest.mark.parametrize("first", ["submit", "callback"])
    def test_second_one_waits(self, backend: Backend, first: str) -> None:
        """Whichever is first keeps the other waiting until it is committed: that closes the gap."""
        generation, provider_id = backend.queued(cost=0), new_key("gen")
        steps = {
            "submit": call(SUBMIT, generation, provider_id),
            "callback": call(CALLBACK, new_key(), provider_id, SUCCEEDED),
        }
        second = "callback" if first == "submit" else "submit"

        with (
            backend.db.connect("holdfast_backend") as one,
            backend.db.connect("holdfast_backend") as two,
        ):
            two.execute("set lock_timeout = '300ms'")
            with one.transaction():
                outcome = steps[first](one)
                assert steps[second](two) == "55P03"
            again = steps[second](two)

        assert (outcome, again) in {("submitted", "applied"), ("parked", "submitted")}
        assert backend.status(generation) == "storing"

    def test_copies_of_everything(self, backend: Backend) -> None:
        """Copies of the note and of two deliveries at once: one of each counts, nothing is parked."""
        for _ in range(8):
            generation, provider_id = backend.queued(cost=0), new_key("gen")
            deliveries = [new_key(), new_key()]

            outcomes = race_steps(
                backend.db,
                [call(SUBMIT, generation, provider_id) for _ in range(4)]
                + [call(CALLBACK, deliveries[n % 2], provider_id, SUCCEEDED) for n in range(8)],
            )

            assert Counter(outcomes[:4]) == {"submitted": 1, "already_submitted": 3}
            assert backend.status(generation) == "storing"
            kept = backend.db.rows(
                "select outcome from backend.inbox where provider_generation_id = %s", provider_id
            )
            assert sorted(row["outcome"] for row in kept) == ["applied", "duplicate"]

    def test_one_provider_id_for_two_generations(self, backend: Backend) -> None:
        """Two generations told the same id: one gets it, the other learns of the conflict."""
        for _ in range(10):
            provider_id = new_key("gen")
            pair = [backend.queued(cost=0), backend.queued(cost=0)]

            outcomes = race_steps(backend.db, [call(SUBMIT, each, provider_id) for each in pair])

            assert sorted(outcomes) == ["provider_id_conflict", "submitted"]


class TestSettlement:
    """Many triggers, one path, one winner."""

    def test_three_triggers(self, backend: Backend) -> None:
        """Worker, sweep and callback end one generation at once: one of them does, and charges once."""
        for _ in range(10):
            user = new_user()
            generation, provider_id = backend.storing(user, 3)

            outcomes = race_steps(
                backend.db,
                [call(COMPLETE, generation, json.dumps(outputs(1))) for _ in range(4)]
                + [
                    call(COMPLETE, generation, "[]"),
                    call("select backend.abandon(%s, 'x')", generation),
                    call(CALLBACK, new_key(), provider_id, FAILED),
                    call(CALLBACK, new_key(), provider_id, SUCCEEDED),
                ],
            )

            settled = [each for each in outcomes[:5] if each != "already_final"]
            assert settled in (["succeeded"], ["failed"])
            assert outcomes[5:] == ["ignored", "ignored", "duplicate"]
            left = 0 if settled == ["succeeded"] else 3
            assert backend.ledger.balance(user) == Balance(Decimal(left), Decimal(0), Decimal(0))
            assert backend.ledger.audit(user) == []

    def test_refusal_against_acceptance(self, backend: Backend) -> None:
        """A refusal, a giving up and an acceptance at once refund at most once, in a state that says so."""
        for _ in range(10):
            user = new_user()
            generation = backend.queued(user, 3)

            race_steps(
                backend.db,
                [
                    call("select backend.mark_refused(%s, 'x', 'x')", generation),
                    call("select backend.abandon(%s, 'x')", generation),
                    call(SUBMIT, generation, new_key("gen")),
                ],
            )

            row = backend.generation(generation)
            assert row["status"] == "failed"  # processing can be abandoned too
            assert backend.ledger.kinds(user) == ["grant", "reserve", "refund"]

    @pytest.mark.parametrize("spend", [0, 3])
    def test_late_successes(self, backend: Backend, spend: int) -> None:
        """Copies of a success after the refund charge again once, or withhold, never both."""
        user = new_user()
        generation, provider_id = backend.processing(user, 3)
        backend.callback(provider_id, "failed")
        backend.ledger.settle(backend.ledger.reserve(user, spend), spend)

        outcomes = race(backend.db, 12, CALLBACK, lambda _: (new_key(), provider_id, SUCCEEDED))

        assert Counter(outcomes) == {"withheld" if spend else "applied": 1, "duplicate": 11}
        assert backend.status(generation) == ("failed" if spend else "storing")
        assert backend.ledger.audit(user) == []


def test_a_day_of_one_user(backend: Backend) -> None:
    """Many generations of one user, every step of each raced by its copy: no deadlock, right books."""
    user = new_user()
    backend.ledger.grant(user, 30)

    outcomes = race_steps(backend.db, [_life(user, number) for number in range(12)])

    for outcome in itertools.chain(*outcomes):
        assert outcome is None or not str(outcome).startswith(("40", "55", "57", "23", "P0")), (
            outcome
        )
    states = backend.db.rows("select distinct status from generations where user_id = %s", user)
    assert {row["status"] for row in states} <= {"succeeded", "failed"}
    balance = backend.ledger.balance(user)
    assert balance.reserved == 0
    charged = backend.db.value(
        "select coalesce(sum(charged_credits), 0) from generations where user_id = %s", user
    )
    assert balance.available == 30 - charged
    assert backend.ledger.audit(user) == []


def _life(user: UUID, number: int) -> Callable[..., list[Any]]:
    """Return the steps of three generations; two runners share each key and repeat each other."""

    def run(connection: Any) -> list[Any]:
        seen = []
        for turn in range(3):
            order = Order(user, 2, key=f"{user}-{number // 2}-{turn}")
            created = connection.execute(CREATE_GENERATION, order.params()).fetchone()
            generation = created["generation_id"]
            seen.append(created["outcome"])
            if generation is None:
                continue
            provider_id = f"gen:{generation}"
            ending = FAILED if turn == 1 else SUCCEEDED
            seen += [
                call(CALLBACK, f"{provider_id}:{number}", provider_id, ending)(connection),
                call(SUBMIT, generation, provider_id)(connection),
                call("select count(*) from backend.claim_stuck(2, 0, 1)")(connection),
                call(COMPLETE, generation, json.dumps(outputs(1)))(connection),
            ]
        return seen

    return run
