"""What users remove and what gets too old: marked first, files next, settled last."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.clock import Clock
from tests.database import TestDatabase
from tests.factories import Backend, new_user
from tests.raising import raises_sqlstate

pytestmark = pytest.mark.own_database


def upload(backend: Backend, user: UUID) -> dict[str, Any]:
    """Name a place for a picture of the user's."""
    row = backend.calls.execute(
        "select asset_id, path from backend.create_asset(%s, 'image/png', 1, 99)", (user,)
    ).fetchone()
    assert row
    return row


def remove_asset(backend: Backend, user: UUID, asset: UUID) -> dict[str, Any]:
    """Call `backend.remove_asset`."""
    row = backend.calls.execute(
        "select * from backend.remove_asset(%s, %s)", (user, asset)
    ).fetchone()
    assert row
    return row


def claim(backend: Backend, idle: int = 0, limit: int = 10) -> list[dict[str, Any]]:
    """Call `backend.claim_removals` with a lease of a minute."""
    return backend.calls.execute(
        "select * from backend.claim_removals(%s, %s, 60)", (limit, idle)
    ).fetchall()


def finish(backend: Backend, kind: str, one: UUID) -> None:
    """Call `backend.finish_removal`."""
    backend.calls.execute("select backend.finish_removal(%s, %s)", (kind, one))


class TestGeneration:
    """A generation taken out of the library."""

    def test_finished(self, backend: Backend) -> None:
        """It names the files to remove; the money history stays as it was."""
        user = new_user()
        generation, _ = backend.storing(user, 3)
        backend.complete(generation, 1)
        before = backend.ledger.books(user)

        removed = backend.remove(user, generation)

        assert removed == {"outcome": "removed", "paths": ["a.png"], "folder": None}
        finish(backend, "generation", generation)
        assert backend.generation(generation)["outputs"] == []
        assert backend.ledger.books(user) == before
        assert claim(backend) == []

    @pytest.mark.parametrize("state", ["queued", "processing", "storing"])
    def test_unfinished(self, backend: Backend, state: str) -> None:
        """What is still under way is not removed."""
        user = new_user()
        made = getattr(backend, state)(user)
        generation = made if isinstance(made, UUID) else made[0]

        assert backend.remove(user, generation)["outcome"] == "not_final"
        assert backend.generation(generation)["removed_at"] is None

    def test_somebody_elses(self, backend: Backend) -> None:
        """Another user's generation is not found, and nothing happens to it."""
        generation = backend.queued()
        backend.refuse(generation)

        assert backend.remove(new_user(), generation)["outcome"] == "not_found"
        assert backend.generation(generation)["removed_at"] is None

    def test_again(self, backend: Backend) -> None:
        """Removing twice is the same as once."""
        user = new_user()
        generation, _ = backend.storing(user)
        backend.complete(generation, 1)
        first = backend.remove(user, generation)
        at = backend.generation(generation)["removed_at"]

        assert backend.remove(user, generation) == first
        assert backend.generation(generation)["removed_at"] == at


class TestAsset:
    """A picture of the user's own."""

    def test_own(self, backend: Backend) -> None:
        """It is marked, its file is named, and its row goes last."""
        user = new_user()
        asset = upload(backend, user)

        removed = remove_asset(backend, user, asset["asset_id"])

        assert removed == {"outcome": "removed", "path": asset["path"]}
        finish(backend, "asset", asset["asset_id"])
        assert backend.db.rows("select from public.assets where id = %s", asset["asset_id"]) == []

    def test_somebody_elses(self, backend: Backend) -> None:
        """Another user's picture is not found and stays."""
        asset = upload(backend, new_user())

        outcome = remove_asset(backend, new_user(), asset["asset_id"])

        assert outcome == {"outcome": "not_found", "path": None}
        assert claim(backend) == []

    def test_not_marked(self, backend: Backend) -> None:
        """A row is never settled that was not marked: its file may be wanted."""
        asset = upload(backend, new_user())

        finish(backend, "asset", asset["asset_id"])

        assert backend.db.rows("select from public.assets where id = %s", asset["asset_id"])


class TestClaims:
    """Files left behind by a worker that died."""

    def test_left_behind(self, backend: Backend, clock: Clock) -> None:
        """What was marked a while ago is claimed, once a lease, with its bucket and paths."""
        user = new_user()
        asset = upload(backend, user)
        generation, _ = backend.storing(user)
        backend.complete(generation, 1)
        remove_asset(backend, user, asset["asset_id"])
        backend.remove(user, generation)
        assert claim(backend, idle=60) == []
        clock.advance(seconds=60)

        claimed = {row["kind"]: row for row in claim(backend, idle=60)}

        assert claimed["asset"]["bucket"] == "uploads"
        assert claimed["asset"]["paths"] == [asset["path"]]
        assert claimed["generation"]["bucket"] == "outputs"
        assert claimed["generation"]["paths"] == ["a.png"]
        assert claim(backend, idle=60) == []
        clock.advance(seconds=60)
        assert len(claim(backend, idle=60)) == 2

    @pytest.mark.parametrize("is_removed", [False, True])
    def test_refunded_by_the_operator(
        self, backend: Backend, clock: Clock, *, is_removed: bool
    ) -> None:
        """One that was poisoned may have files that nobody paid for: the folder is cleared, and it stays listed."""
        user = new_user()
        generation, _ = backend.storing(user)
        owner = backend.db.connection("postgres")
        owner.execute("update backend.dispatches set failures = 10")
        owner.execute("select backend.refund_generation(%s)", (generation,))
        folder = f"{user}/{generation}"
        if is_removed:
            assert backend.remove(user, generation)["folder"] == folder
        assert claim(backend, idle=60) == []  # its worker may still be at it
        clock.advance(seconds=60)

        (claimed,) = claim(backend, idle=60)
        assert (claimed["id"], claimed["paths"], claimed["folder"]) == (generation, [], folder)
        finish(backend, "generation", generation)

        clock.advance(seconds=60)
        assert claim(backend, idle=60) == []
        assert (backend.generation(generation)["removed_at"] is not None) is is_removed
        assert backend.ledger.balance(user).available == 3

    @pytest.mark.parametrize("code", ["output_lost", "content_rejected"])
    def test_other_failures_have_nothing_to_clear(
        self, backend: Backend, clock: Clock, code: str
    ) -> None:
        """A failure that was settled by what is stored left nothing there."""
        generation, _ = backend.storing()
        backend.complete(generation, 0, code)
        clock.advance(days=1)

        assert claim(backend) == []

    def test_shared(self, db: TestDatabase, backend: Backend) -> None:
        """Two sweeps at once never hold the same removal."""
        user = new_user()
        for _ in range(4):
            remove_asset(backend, user, upload(backend, user)["asset_id"])

        with db.connect("holdfast_backend") as other:
            theirs = other.execute("select id from backend.claim_removals(2, 0, 60)").fetchall()
            mine = claim(backend)

        assert len(theirs) == len(mine) == 2
        assert not {row["id"] for row in theirs} & {row["id"] for row in mine}


class TestUnusedAssets:
    """Pictures nobody lent for a while."""

    MARK = "select backend.mark_unused_assets(%s, 100, %s)"

    def test_age(self, backend: Backend, clock: Clock) -> None:
        """After 30 days without use a picture is marked; a younger or used one is not."""
        user = new_user()
        old, used = upload(backend, user), upload(backend, user)
        clock.advance(days=30, seconds=1)
        backend.db.connection("postgres").execute(
            "update public.assets set last_used_at = ledger.clock() where id = %s",
            (used["asset_id"],),
        )
        upload(backend, user)

        assert backend.ledger.call(self.MARK, 30, "true") == 1
        assert claim(backend) == []  # a dry run only counts
        assert backend.ledger.call(self.MARK, 30, "false") == 1
        assert [row["id"] for row in claim(backend)] == [old["asset_id"]]


class TestOldEvents:
    """Events that nobody needs any more."""

    REMOVE = "select * from backend.remove_old_events(%s, 100, %s)"

    def _counts(self, backend: Backend, days: int, *, dry_run: bool) -> dict[str, int]:
        rows = backend.calls.execute(self.REMOVE, (days, dry_run)).fetchall()
        return {row["what"]: row["rows"] for row in rows}

    def test_age(self, backend: Backend, clock: Clock) -> None:
        """After 90 days events go; younger ones, parked callbacks and the ledger stay."""
        user = new_user()
        generation, _ = backend.storing(user)
        backend.complete(generation, 1)
        backend.callback("gen:unknown", "succeeded")
        clock.advance(days=90, seconds=1)
        backend.queued(user)
        books = backend.ledger.books(user)

        expected = {"generation_events": 4, "inbox": 1, "stripe_events": 0}
        assert self._counts(backend, 90, dry_run=True) == expected
        assert self._counts(backend, 90, dry_run=False) == expected
        assert self._counts(backend, 90, dry_run=False) == dict.fromkeys(expected, 0)

        assert backend.db.value("select count(*) from public.generation_events") == 1
        assert backend.db.value("select outcome from backend.inbox") == "parked"
        assert backend.ledger.books(user) == books

    def test_too_young(self, backend: Backend) -> None:
        """Fewer than 31 days are refused: an event that Stripe repeats must be known as seen."""
        with raises_sqlstate("22023"):
            self._counts(backend, 30, dry_run=False)
