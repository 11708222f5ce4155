from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest

from tests.factories import Backend, Balance, new_user, outputs
from tests.raising import raises_sqlstate


class TestSucceeded:
    """Outputs were stored."""

    def test_all_delivered(self, backend: Backend) -> None:
        """All outputs stored: charged in full, finished, the files noted."""
        user = new_user()
        generation, _ = backend.storing(user, 3, 2)

        assert backend.complete(generation, 2) == "succeeded"

        row = backend.generation(generation)
        assert (row["status"], row["charged_credits"]) == ("succeeded", 3)
        assert row["outputs"] == outputs(2)
        assert row["error_code"] is None
        assert row["finished_at"] is not None
        assert backend.ledger.balance(user) == Balance(Decimal(0), Decimal(0), Decimal(0))

    @pytest.mark.parametrize(
        ("cost", "count", "delivered", "charged"),
        [
            ("3", 3, 1, "1"),
            ("1", 3, 1, "0.333"),
            ("1", 3, 2, "0.667"),
            ("0.001", 2, 1, "0.001"),  # halves go up: delivered is never free
            ("0.001", 3, 1, "0"),  # below half a thousandth there is nothing to charge
            ("10", 4, 3, "7.5"),
            ("0", 2, 1, "0"),
        ],
    )
    def test_some_delivered(
        self, backend: Backend, cost: str, count: int, delivered: int, charged: str
    ) -> None:
        """Part of n outputs charges that part of the price, to the nearest thousandth, and the rest is refunded."""
        user = new_user()
        generation, _ = backend.storing(user, cost, count)

        assert backend.complete(generation, delivered) == "succeeded"

        row = backend.generation(generation)
        assert (row["status"], row["error_code"]) == ("succeeded", "output_lost")
        assert row["charged_credits"] == Decimal(charged)
        assert backend.ledger.balance(user).available == Decimal(cost) - Decimal(charged)
        assert backend.ledger.balance(user).reserved == 0
        assert backend.ledger.audit(user) == []

    def test_shares_never_exceed_the_price(self, backend: Backend) -> None:
        """The charge grows with what is delivered and reaches the price with the last output."""
        charges = []
        for delivered in range(1, 8):
            generation, _ = backend.storing(cost="1.003", output_count=7)
            backend.complete(generation, delivered)
            charges.append(backend.generation(generation)["charged_credits"])

        assert charges == sorted(charges)
        assert charges[-1] == Decimal("1.003")


class TestFailed:
    """No output was stored."""

    def test_none_delivered(self, backend: Backend) -> None:
        """Outputs lost for good: failed, refunded, and the code says why."""
        user = new_user()
        generation, _ = backend.storing(user, 3)

        assert backend.complete(generation, 0, "output_too_large") == "failed"

        row = backend.generation(generation)
        assert (row["status"], row["error_code"]) == ("failed", "output_too_large")
        assert row["charged_credits"] == 0
        assert backend.ledger.balance(user).available == 3

    def test_code_has_a_default(self, backend: Backend) -> None:
        """Without a code the output was lost."""
        generation, _ = backend.storing()
        backend.complete(generation, 0)

        assert backend.generation(generation)["error_code"] == "output_lost"


class TestRefused:
    """Calls that settle nothing."""

    @pytest.mark.parametrize("first", [0, 1])
    @pytest.mark.parametrize("second", [0, 1])
    def test_twice(self, backend: Backend, first: int, second: int) -> None:
        """The first settlement wins; a second one finds it final and changes nothing."""
        user = new_user()
        generation, _ = backend.storing(user, 3)
        backend.complete(generation, first)
        before = backend.generation(generation), backend.ledger.books(user)

        assert backend.complete(generation, second) == "already_final"
        assert (backend.generation(generation), backend.ledger.books(user)) == before

    def test_before_the_provider_succeeded(self, backend: Backend) -> None:
        """Nothing is charged for outputs nobody announced."""
        processing, _ = backend.processing()

        assert backend.complete(backend.queued(), 1) == "not_ready"
        assert backend.complete(processing, 1) == "not_ready"
        assert backend.complete(uuid4(), 1) == "not_found"

    def test_more_than_was_ordered(self, backend: Backend) -> None:
        """More outputs than were paid for are refused, and the generation can still be settled."""
        generation, _ = backend.storing(output_count=2)

        with pytest.raises(psycopg.errors.RaiseException):
            backend.complete(generation, 3)

        assert backend.complete(generation, 2) == "succeeded"

    def test_missing_list(self, backend: Backend) -> None:
        """A call that forgets the list charges nothing and fails."""
        generation, _ = backend.storing()

        with raises_sqlstate("HF001"):
            backend.calls.execute("select backend.complete_generation(%s, null)", (generation,))

        assert backend.status(generation) == "storing"

    @pytest.mark.parametrize("finish", ["complete", "fail", "abandon"])
    def test_reservation_settled_behind_our_back(self, backend: Backend, finish: str) -> None:
        """When somebody else settled the reservation the state does not move: a bug must show."""
        generation, provider_id = backend.processing()
        if finish == "complete":
            backend.callback(provider_id, "succeeded")
        backend.ledger.settle(generation, 0)
        before = backend.generation(generation)

        ways: dict[str, Callable[[], object]] = {
            "complete": lambda: backend.complete(generation, 1),
            "fail": lambda: backend.callback(provider_id, "failed"),
            "abandon": lambda: backend.abandon(generation),
        }

        with pytest.raises(psycopg.errors.RaiseException):
            ways[finish]()

        assert backend.generation(generation) == before
