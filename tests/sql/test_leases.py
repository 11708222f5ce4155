"""Leases of the settle worker, poison, and what the operator can do about it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from holdfast.usecases.lease_settlement import LEASE_SECONDS
from tests.clock import Clock
from tests.factories import Backend, Balance, new_user

pytestmark = pytest.mark.own_database
POISON = 10


def stuck(backend: Backend, idle: int = 120) -> list[dict[str, Any]]:
    """Call `backend.list_stuck` as the operator."""
    return backend.db.rows("select * from backend.list_stuck(%s, 100)", idle)


def operate(backend: Backend, command: str, generation: UUID) -> str:
    """Call an operator's function."""
    query = {
        "retry": "select backend.retry_generation(%s)",
        "refund": "select backend.refund_generation(%s)",
    }
    return str(backend.db.value(query[command], generation))


def poisoned(backend: Backend, user: UUID | None = None) -> UUID:
    """Return a generation whose settlement broke so often that it is left alone."""
    generation, _ = backend.storing(user)
    for _ in range(POISON):
        assert backend.lease(generation) == "leased"
        backend.give_back(generation)
    return generation


class TestSettleWorker:
    """Who stores a generation's outputs."""

    def test_one_at_a_time(self, backend: Backend, clock: Clock) -> None:
        """A second worker leaves it to the first, until the lease has run out."""
        generation, _ = backend.storing()
        assert backend.lease(generation, "m1") == "leased"
        assert backend.lease(generation, "m2") == "busy"
        clock.advance(seconds=LEASE_SECONDS - 1)
        assert backend.lease(generation, "m2") == "busy"
        clock.advance(seconds=1)
        assert backend.lease(generation, "m2") == "leased"

    def test_the_same_message_again(self, backend: Backend) -> None:
        """A message that comes back means that its worker is dead: it takes the lease over."""
        generation, _ = backend.storing()
        assert backend.lease(generation, "m1") == "leased"
        assert backend.lease(generation, "m1") == "leased"

    def test_given_back(self, backend: Backend) -> None:
        """A worker that failed frees it at once; a stranger cannot."""
        generation, _ = backend.storing()
        backend.lease(generation, "m1")
        backend.give_back(generation, "m2")
        assert backend.lease(generation, "m2") == "busy"
        backend.give_back(generation, "m1")
        assert backend.lease(generation, "m2") == "leased"

    def test_nothing_to_store(self, backend: Backend) -> None:
        """What is not ready, over or unknown is not leased."""
        done, _ = backend.storing()
        backend.complete(done, 1)
        assert backend.lease(backend.processing()[0]) == "not_ready"
        assert backend.lease(done) == "already_final"
        assert backend.lease(new_user()) == "not_found"

    def test_sweep_and_worker_share(self, backend: Backend, clock: Clock) -> None:
        """The sweep does not take what a worker holds, nor a worker what a sweep holds."""
        held, _ = backend.storing()
        backend.lease(held, seconds=1000)
        claimed, _ = backend.storing()
        clock.advance(seconds=200)
        assert [row["generation_id"] for row in backend.claim(lease=60)] == [claimed]
        assert backend.lease(claimed) == "busy"
        backend.postpone(claimed, 120)
        assert backend.lease(claimed) == "leased"


class TestPoison:
    """What breaks everybody who works on it."""

    def test_left_to_the_operator(self, backend: Backend, clock: Clock) -> None:
        """After ten failures nobody tries any more, and the reservation is still there to be seen."""
        user = new_user()
        generation = poisoned(backend, user)
        clock.advance(hours=1)

        assert backend.lease(generation) == "poisoned"
        assert backend.claim() == []
        assert backend.ledger.balance(user) == Balance(Decimal(0), Decimal(3), Decimal(0))
        assert backend.db.value("select backend.count_poisoned()") == 1
        (row,) = stuck(backend)
        assert (row["generation_id"], row["reason"], row["last_error"], row["reserved"]) == (
            generation,
            "poisoned",
            "trouble",
            3,
        )

    def test_a_death_counts(self, backend: Backend) -> None:
        """A worker that dies cannot count: the try is counted when it begins."""
        generation, _ = backend.storing()
        outcomes = [backend.lease(generation) for _ in range(POISON + 1)]
        assert outcomes == ["leased"] * POISON + ["poisoned"]
        assert "did not come back" in backend.dispatch(generation)["last_error"]

    def test_an_outage_does_not_count(self, backend: Backend) -> None:
        """However often storage is away, it poisons nothing."""
        generation, _ = backend.storing()
        for _ in range(3 * POISON):
            assert backend.lease(generation) == "leased"
            backend.give_back(generation, is_failure=False)
        assert backend.dispatch(generation)["failures"] == 0

    def test_the_sweeps_failures_count(self, backend: Backend, clock: Clock) -> None:
        """What breaks the sweep is left alone as well."""
        generation, _ = backend.processing()
        for _ in range(POISON):
            clock.advance(hours=1)
            assert len(backend.claim()) == 1
            backend.postpone(generation, 60, is_failure=True)
        clock.advance(hours=1)
        assert backend.claim() == []

    def test_progress_starts_over(self, backend: Backend) -> None:
        """A step forward forgets the failures before it."""
        generation, provider_id = backend.processing()
        for _ in range(POISON):
            backend.postpone(generation, 1, is_failure=True)
        backend.callback(provider_id, "succeeded")
        assert backend.lease(generation) == "leased"


class TestOperator:
    """`make ops`."""

    def test_why(self, backend: Backend, clock: Clock) -> None:
        """Each stuck generation has a reason; what moves, or is over, is not listed."""
        user = new_user()
        unknown, busy, running, storing = (
            backend.queued(),
            backend.queued(),
            backend.processing()[0],
            backend.storing()[0],
        )
        wanted, _ = backend.processing(user)
        backend.cancel(user, wanted)
        clock.advance(hours=1)
        backend.unsent(busy)
        backend.queued()

        reasons = {row["generation_id"]: row["reason"] for row in stuck(backend)}

        assert reasons == {
            unknown: "submission unknown",
            busy: "provider takes nothing",
            running: "provider has not finished",
            storing: "outputs not stored",
            wanted: "cancel of the user unanswered",
        }

    def test_retry(self, backend: Backend) -> None:
        """A retried generation is taken by the next sweep, however poisoned."""
        generation = poisoned(backend)
        assert operate(backend, "retry", generation) == "waking"
        assert [row["generation_id"] for row in backend.claim(idle=3600)] == [generation]

    def test_retry_of_what_is_over(self, backend: Backend) -> None:
        """Nothing finished is woken, nor anything unknown."""
        generation = backend.queued()
        backend.refuse(generation)
        assert operate(backend, "retry", generation) == "ignored"
        assert operate(backend, "refund", generation) == "ignored"
        assert operate(backend, "refund", new_user()) == "ignored"

    def test_refund_of_poison(self, backend: Backend) -> None:
        """What nobody can finish is refunded at once; a repeated success stays undelivered."""
        user = new_user()
        generation = poisoned(backend, user)
        assert operate(backend, "refund", generation) == "refunded"
        row = backend.generation(generation)
        assert (row["status"], row["error_code"]) == ("failed", "refunded_by_operator")
        assert backend.ledger.balance(user).available == 3
        assert backend.complete(generation, 1) == "already_final"

    def test_refund_asks_first(self, backend: Backend) -> None:
        """What the provider may be working on is stopped there before anything is refunded."""
        user = new_user()
        generation, provider_id = backend.processing(user)
        assert operate(backend, "refund", generation) == "asking"
        assert backend.ledger.balance(user).reserved == 3
        (claimed,) = backend.claim(idle=3600)
        assert claimed["cancel_reason"] == "operator"

        backend.provider_state(generation, "canceled")
        assert backend.generation(generation)["error_code"] == "refunded_by_operator"
        assert backend.callback(provider_id, "succeeded")["outcome"] == "withheld"
        assert backend.ledger.balance(user).available == 3

    def test_refund_of_what_was_never_sent(self, backend: Backend) -> None:
        """Nobody has to be asked."""
        generation = backend.queued()
        backend.unsent(generation)
        assert operate(backend, "refund", generation) == "refunded"

    def test_not_for_the_functions(self, backend: Backend) -> None:
        """The functions' role can neither list nor decide."""
        for name in ("list_stuck(integer,integer)", "retry_generation(uuid)"):
            assert not backend.db.value(
                "select has_function_privilege('holdfast_backend', %s, 'execute')",
                f"backend.{name}",
            )
