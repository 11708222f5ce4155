from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.clock import Clock
from tests.database import Connection
from tests.factories import Backend, Ledger, Order, new_user


class TestGenerations:
    """A user's library."""

    def test_own(self, backend: Backend, functions: Connection) -> None:
        """A user gets their own generation."""
        user = new_user()
        generation = backend.queued(user)

        rows = functions.execute(
            "select * from backend.get_generation(%s, %s)", (user, generation)
        ).fetchall()

        assert rows == [backend.generation(generation)]

    def test_others(self, backend: Backend, functions: Connection) -> None:
        """Another user's generation is no row, like one that does not exist."""
        generation = backend.queued()

        for user, wanted in ((new_user(), generation), (new_user(), uuid4())):
            found = functions.execute(
                "select * from backend.get_generation(%s, %s)", (user, wanted)
            ).fetchall()
            assert found == []

    @pytest.mark.own_database
    def test_pages(self, backend: Backend, clock: Clock) -> None:
        """Pages by cursor show every generation once, newest first, also those of one moment."""
        user = new_user()
        for _ in range(3):
            for _ in range(3):
                backend.create(Order(user, 0))
            clock.advance(seconds=1)
        backend.create(Order(new_user(), 0))
        expected = backend.db.rows(
            "select id from generations where user_id = %s order by created_at desc, id desc", user
        )

        seen: list[dict[str, Any]] = []
        while page := _page(backend, user, seen[-1] if seen else None, limit=2):
            seen += page

        assert [row["id"] for row in seen] == [row["id"] for row in expected]

    def test_by_status(self, backend: Backend) -> None:
        """A page can be of one status."""
        user = new_user()
        backend.refuse(backend.queued(user, 0))
        queued = backend.queued(user, 0)

        assert [row["id"] for row in _page(backend, user, status="queued")] == [queued]


class TestAccount:
    """A user's balance and grants."""

    def test_nobody(self, ledger: Ledger) -> None:
        """Who never had credits has zeros and no grants."""
        assert _account(ledger, new_user()) == {
            "available": 0,
            "reserved": 0,
            "owed": 0,
            "grants": [],
            "plan": None,
            "has_billing": False,
        }

    def test_grants_in_spending_order(self, ledger: Ledger) -> None:
        """The grants that have something left come in spending order, amounts as exact text."""
        user = new_user()
        ledger.grant(user, 5)
        ledger.settle(ledger.reserve(user, 5), 5)
        ledger.grant(user, "2.5", source="welcome")
        expires_at = ledger.call("select now() + interval '1 day'")
        ledger.grant(user, 4, source="plan", expires_at=expires_at)
        ledger.reserve(user, 1)

        account = _account(ledger, user)

        assert (account["available"], account["reserved"]) == (Decimal("5.5"), 1)
        first, second = account["grants"]
        assert (first["source"], first["amount"], first["remaining"]) == ("plan", "4.000", "3.000")
        assert first["expires_at"] is not None
        assert (second["source"], second["expires_at"]) == ("welcome", None)


class TestLedgerPages:
    """A user's ledger entries."""

    def test_pages(self, ledger: Ledger) -> None:
        """Pages by cursor show every entry of a user once, newest first."""
        user = new_user()
        for _ in range(5):
            ledger.grant(user, 1)
            ledger.grant(new_user(), 1)

        seen: list[dict[str, Any]] = []
        while page := ledger.calls.execute(
            "select * from backend.list_ledger(%s, %s, 2)", (user, seen[-1]["id"] if seen else None)
        ).fetchall():
            seen += page

        assert seen == ledger.entries(user)[::-1]


class TestAssets:
    """A user's pictures."""

    def test_created(self, backend: Backend) -> None:
        """A picture gets a place below its owner's folder."""
        user = new_user()

        answer = _asset(backend, user)

        assert answer["outcome"] == "created"
        assert answer["path"] == f"{user}/{answer['asset_id']}.webp"

    def test_only_own(self, backend: Backend) -> None:
        """Somebody else's pictures are left out, like those that do not exist."""
        user = new_user()
        mine, theirs = _asset(backend, user), _asset(backend, new_user())

        found = backend.calls.execute(
            "select * from backend.lend_assets(%s, %s)",
            (user, [mine["asset_id"], theirs["asset_id"], uuid4()]),
        ).fetchall()

        assert found == [{"asset_id": mine["asset_id"], "path": mine["path"]}]

    @pytest.mark.own_database
    def test_too_many_in_an_hour(self, backend: Backend, clock: Clock) -> None:
        """Beyond the hourly limit no place is given, until the hour is over."""
        user = new_user()
        _asset(backend, user, per_hour=1)

        refused = _asset(backend, user, per_hour=1)
        assert refused == {
            "outcome": "rate_limited",
            "asset_id": None,
            "path": None,
            "retry_after_seconds": 3600,
        }

        clock.set(clock.now() + timedelta(hours=1))
        assert _asset(backend, user, per_hour=1)["outcome"] == "created"

    @pytest.mark.parametrize(
        ("content_type", "size"),
        [
            ("image/svg+xml", 1),
            ("image/gif", 1),
            ("text/html", 1),
            ("image/png", 0),
            ("image/png", 10485761),
        ],
    )
    def test_impossible(self, backend: Backend, content_type: str, size: int) -> None:
        """Only pictures within the limit get a place."""
        with pytest.raises(psycopg.errors.CheckViolation):
            _asset(backend, new_user(), content_type, size)


def _page(
    backend: Backend,
    user: object,
    after: dict[str, Any] | None = None,
    *,
    limit: int = 10,
    status: str | None = None,
    kind: str | None = None,
) -> list[dict[str, Any]]:
    cursor = (after["created_at"], after["id"]) if after else (None, None)
    return backend.calls.execute(
        "select * from backend.list_generations(%s, %s, %s, %s, %s, %s)",
        (user, status, kind, *cursor, limit),
    ).fetchall()


def _account(ledger: Ledger, user: object) -> dict[str, Any]:
    row = ledger.calls.execute("select * from backend.get_account(%s)", (user,)).fetchone()
    assert row
    return row


def _asset(
    backend: Backend,
    user: object,
    content_type: str = "image/webp",
    size: int = 100,
    per_hour: int = 100,
) -> dict[str, Any]:
    row = backend.calls.execute(
        "select * from backend.create_asset(%s, %s, %s, %s)", (user, content_type, size, per_hour)
    ).fetchone()
    assert row
    return row
