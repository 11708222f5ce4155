from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.clock import Clock
from tests.factories import Backend, Balance, new_user
from tests.racing import race_steps

pytestmark = pytest.mark.own_database


def ids(claimed: list[dict[str, Any]]) -> list[UUID]:
    """Return the generations of a claim."""
    return [row["generation_id"] for row in claimed]


class TestClaim:
    """Who looks after which stuck generation."""

    def test_what_is_needed_to_ask(self, backend: Backend, clock: Clock) -> None:
        """A claim brings the bytes to send again, the provider's id, and how old it all is."""
        generation, provider_id = backend.processing()
        clock.advance(seconds=120)

        (claimed,) = backend.claim(idle=120)

        assert claimed == {
            "generation_id": generation,
            "status": "processing",
            "kind": "image",
            "request": '{"prompt":"a red fox"}',
            "model": "baby/one",
            "provider_generation_id": provider_id,
            "attempts": 1,
            "age_seconds": 120,
            "running_seconds": 120,
            "cancel_reason": None,
        }

    def test_each_unfinished_state(self, backend: Backend, clock: Clock) -> None:
        """Queued, processing and storing get stuck; what is over does not."""
        unfinished = [backend.queued(), backend.processing()[0], backend.storing()[0]]
        done, refused = backend.storing()[0], backend.queued()
        backend.complete(done, 1)
        backend.refuse(refused)
        clock.advance(hours=1)

        assert sorted(ids(backend.claim())) == sorted(unfinished)

    def test_recently_moved(self, backend: Backend, clock: Clock) -> None:
        """What moved a moment ago is left alone; every step counts as a move."""
        generation = backend.queued()
        clock.advance(seconds=119)
        assert backend.claim(idle=120) == []
        backend.submit(generation, "gen:1")
        clock.advance(seconds=119)
        assert backend.claim(idle=120) == []
        clock.advance(seconds=1)
        assert ids(backend.claim(idle=120)) == [generation]

    def test_lease(self, backend: Backend, clock: Clock) -> None:
        """A claimed generation is not claimed again before its lease ends, however its sweep died."""
        generation = backend.queued()
        clock.advance(seconds=120)
        assert ids(backend.claim(lease=60)) == [generation]

        clock.advance(seconds=59)
        assert backend.claim() == []
        clock.advance(seconds=1)
        (again,) = backend.claim()
        assert again["attempts"] == 2

    def test_moving_ends_the_lease(self, backend: Backend, clock: Clock) -> None:
        """A step that was reached frees the generation for the next look."""
        generation = backend.queued()
        clock.advance(seconds=120)
        backend.claim(lease=3600)
        backend.submit(generation, "gen:1")
        clock.advance(seconds=120)

        assert ids(backend.claim()) == [generation]

    def test_postponed(self, backend: Backend, clock: Clock) -> None:
        """A postponed generation is left alone for so long, and a finished one is not touched."""
        generation, finished = backend.queued(), backend.queued()
        backend.refuse(finished)
        backend.postpone(generation, 600)
        backend.postpone(finished, 600)

        clock.advance(seconds=599)
        assert backend.claim() == []
        clock.advance(seconds=1)
        assert ids(backend.claim()) == [generation]

    def test_longest_stuck_first(self, backend: Backend, clock: Clock) -> None:
        """With more than the limit the ones that wait longest come first."""
        stuck = []
        for _ in range(4):
            stuck.append(backend.queued())
            clock.advance(seconds=1)
        clock.advance(seconds=120)

        assert ids(backend.claim(limit=3)) == stuck[:3]
        assert ids(backend.claim(limit=3)) == stuck[3:]

    def test_generations_at_work_are_skipped(self, backend: Backend, clock: Clock) -> None:
        """A generation that somebody is moving is left to them; the sweep does not wait."""
        busy, idle = backend.queued(), backend.queued()
        clock.advance(hours=1)

        with backend.db.connect("holdfast_backend") as other, other.transaction():
            other.execute("select backend.abandon(%s, 'x')", (busy,))
            backend.calls.execute("set lock_timeout = '1s'")
            assert ids(backend.claim()) == [idle]

    def test_overlapping_sweeps(self, backend: Backend, clock: Clock) -> None:
        """Sweeps at the same moment get different generations, and together all of them."""
        stuck = [backend.queued(cost=0) for _ in range(20)]
        clock.advance(hours=1)

        claims = race_steps(
            backend.db,
            [
                lambda c: c.execute("select * from backend.claim_stuck(5, 120, 60)").fetchall()
                for _ in range(8)
            ],
        )

        claimed = [generation for claim in claims for generation in ids(claim)]
        assert len(claimed) == len(set(claimed))
        assert set(claimed) | set(ids(backend.claim(limit=99))) == set(stuck)


class TestProviderState:
    """What the provider answers when asked."""

    def test_same_path_as_a_callback(self, backend: Backend) -> None:
        """What the provider answers when asked moves the state just like its callback."""
        generation, provider_id = backend.processing()

        answer = backend.provider_state(generation, "succeeded")

        assert answer == {"outcome": "applied", "status": "storing"}
        assert backend.callback(provider_id, "succeeded")["outcome"] == "duplicate"

    def test_failure(self, backend: Backend) -> None:
        """A failure learnt by asking refunds, once."""
        user = new_user()
        generation, provider_id = backend.processing(user, 3)

        assert backend.provider_state(generation, "failed")["status"] == "failed"
        assert backend.callback(provider_id, "failed")["outcome"] == "ignored"
        assert backend.ledger.kinds(user) == ["grant", "reserve", "refund"]

    def test_still_at_it(self, backend: Backend) -> None:
        """No news is ignored."""
        generation, _ = backend.processing()

        answer = backend.provider_state(generation, "processing")

        assert answer == {"outcome": "ignored", "status": "processing"}

    def test_unknown_status(self, backend: Backend) -> None:
        """A status we do not know is refused."""
        with pytest.raises(psycopg.errors.RaiseException):
            backend.provider_state(backend.queued(), "exploded")


class TestAbandon:
    """Giving up what the provider does not know."""

    def test_refunded(self, backend: Backend) -> None:
        """What the provider knows nothing of is failed and refunded."""
        user = new_user()
        generation = backend.queued(user, 3)

        assert backend.abandon(generation, "provider_lost") == "refunded"

        assert backend.generation(generation)["error_code"] == "provider_lost"
        assert backend.ledger.balance(user) == Balance(Decimal(3), Decimal(0), Decimal(0))
        assert backend.ledger.audit() == []

    def test_outputs_exist(self, backend: Backend) -> None:
        """What has outputs, what is over and what never was cannot be abandoned."""
        storing, _ = backend.storing()
        done, _ = backend.storing()
        backend.complete(done, 1)

        assert [backend.abandon(each) for each in (storing, done, uuid4())] == ["ignored"] * 3

    def test_success_after_it(self, backend: Backend) -> None:
        """A success after the refund is charged again or withheld, as after any failure."""
        user = new_user()
        generation, provider_id = backend.processing(user, 3)
        backend.abandon(generation)

        assert backend.callback(provider_id, "succeeded")["status"] == "storing"
        assert backend.ledger.balance(user).reserved == 3
