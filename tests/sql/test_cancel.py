"""Cancel as a protocol in the database: wanted, asked, then confirmed or too late; one refund or one charge."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from tests.clock import Clock
from tests.factories import Backend, Balance, new_user

pytestmark = pytest.mark.own_database
REFUNDED = Balance(Decimal(3), Decimal(0), Decimal(0))
RESERVED = Balance(Decimal(0), Decimal(3), Decimal(0))
CHARGED = Balance(Decimal(0), Decimal(0), Decimal(0))


def ends(backend: Backend, generation: UUID) -> tuple[str, str | None]:
    """Return the state and the error code."""
    row = backend.generation(generation)
    return row["status"], row["error_code"]


class TestRequest:
    """What a user's wish does at once."""

    def test_certainly_never_sent(self, backend: Backend) -> None:
        """What the provider refused to take is canceled and refunded without asking anybody."""
        user = new_user()
        generation = backend.queued(user)
        assert backend.unsent(generation) == "waiting"

        answer = backend.cancel(user, generation)

        assert answer == {
            "outcome": "canceled",
            "status": "canceled",
            "provider_generation_id": None,
        }
        assert backend.ledger.balance(user) == REFUNDED
        assert backend.states(generation) == ["queued", "canceled"]

    def test_may_have_been_sent(self, backend: Backend) -> None:
        """Before the provider's id is known the wish is only noted, and nothing is refunded."""
        user = new_user()
        generation = backend.queued(user)

        answer = backend.cancel(user, generation)

        assert (answer["outcome"], answer["status"]) == ("cancel_requested", "queued")
        assert backend.ledger.balance(user) == RESERVED
        submitted = backend.submit(generation, "gen:1")
        assert (submitted["status"], submitted["is_cancel_wanted"]) == ("processing", True)

    def test_at_the_provider(self, backend: Backend) -> None:
        """The provider's id comes back, so that the provider can be asked."""
        user = new_user()
        generation, provider_id = backend.processing(user)

        answer = backend.cancel(user, generation)

        assert answer == {
            "outcome": "cancel_requested",
            "status": "processing",
            "provider_generation_id": provider_id,
        }
        assert backend.ledger.balance(user) == RESERVED

    def test_output_is_there(self, backend: Backend) -> None:
        """Once the provider has succeeded it is too late, before and after the charge."""
        user = new_user()
        generation, _ = backend.storing(user)
        assert backend.cancel(user, generation)["outcome"] == "not_cancelable"

        backend.complete(generation, 1)

        answer = backend.cancel(user, generation)
        assert (answer["outcome"], answer["status"]) == ("not_cancelable", "succeeded")

    def test_failed_already(self, backend: Backend) -> None:
        """What has failed is refunded already, and stays failed."""
        user = new_user()
        generation = backend.queued(user)
        backend.refuse(generation)
        assert backend.cancel(user, generation)["outcome"] == "not_cancelable"

    def test_twice(self, backend: Backend) -> None:
        """A repeated wish gives the same answer: also after the cancel, with one refund."""
        user = new_user()
        generation, _ = backend.processing(user)
        assert backend.cancel(user, generation) == backend.cancel(user, generation)
        backend.provider_state(generation, "canceled")

        assert backend.cancel(user, generation)["outcome"] == "canceled"
        assert backend.ledger.kinds(user) == ["grant", "reserve", "refund"]

    def test_somebody_elses(self, backend: Backend) -> None:
        """Another user's generation does not exist."""
        generation, _ = backend.processing()
        answer = backend.cancel(new_user(), generation)
        assert (answer["outcome"], answer["status"]) == ("not_found", None)
        assert backend.dispatch(generation)["cancel_requested_at"] is None


class TestAnswer:
    """What the provider's answer, or its callback, makes of a wish."""

    @pytest.mark.parametrize("way", ["asked", "callback"])
    def test_confirmed(self, backend: Backend, way: str) -> None:
        """Canceled and refunded, without an error, however the confirmation comes; a second one changes nothing."""
        user = new_user()
        generation, provider_id = backend.processing(user)
        backend.cancel(user, generation)
        for _ in range(2):
            if way == "asked":
                backend.provider_state(generation, "canceled")
            else:
                backend.callback(provider_id, "canceled", error_code="whatever")

        assert ends(backend, generation) == ("canceled", None)
        assert backend.ledger.balance(user) == REFUNDED

    def test_too_late(self, backend: Backend) -> None:
        """A success that comes while the cancel is wanted is stored and charged; a cancel after it is ignored."""
        user = new_user()
        generation, provider_id = backend.processing(user)
        backend.cancel(user, generation)

        assert backend.callback(provider_id, "succeeded")["status"] == "storing"
        assert backend.provider_state(generation, "canceled")["outcome"] == "ignored"

        assert backend.complete(generation, 1) == "succeeded"
        assert backend.ledger.balance(user) == CHARGED

    def test_failed_meanwhile(self, backend: Backend) -> None:
        """A failure that comes first is what happened."""
        user = new_user()
        generation, provider_id = backend.processing(user)
        backend.cancel(user, generation)
        backend.callback(provider_id, "failed", error_code="BSE4006")
        assert ends(backend, generation) == ("failed", "BSE4006")
        assert backend.ledger.balance(user) == REFUNDED

    def test_success_after_the_cancel(self, backend: Backend) -> None:
        """Who was told that it is canceled is not charged again: the output is withheld."""
        user = new_user()
        generation, provider_id = backend.processing(user)
        backend.cancel(user, generation)
        backend.provider_state(generation, "canceled")

        assert backend.callback(provider_id, "succeeded")["outcome"] == "withheld"

        assert ends(backend, generation) == ("canceled", None)
        assert backend.ledger.balance(user) == REFUNDED

    def test_success_after_the_providers_own_cancel(self, backend: Backend) -> None:
        """Nobody of ours wanted it ended: charged again and delivered, as after any refund."""
        user = new_user()
        generation, provider_id = backend.processing(user)
        backend.callback(provider_id, "canceled")
        assert backend.ledger.balance(user) == REFUNDED

        assert backend.callback(provider_id, "succeeded")["status"] == "storing"
        assert backend.complete(generation, 1) == "succeeded"
        assert backend.ledger.balance(user) == CHARGED

    def test_busy_meanwhile(self, backend: Backend) -> None:
        """A wish that came while the provider was saying that it takes nothing is fulfilled by that."""
        user = new_user()
        generation = backend.queued(user)
        backend.cancel(user, generation)

        assert backend.unsent(generation) == "canceled"

        assert ends(backend, generation) == ("canceled", None)
        assert backend.ledger.balance(user) == REFUNDED

    def test_early_success(self, backend: Backend) -> None:
        """A success parked before the id was known is delivered; there is nothing left to cancel."""
        user = new_user()
        generation = backend.queued(user)
        backend.cancel(user, generation)
        backend.callback("gen:early", "succeeded")

        submitted = backend.submit(generation, "gen:early")

        assert (submitted["status"], submitted["is_cancel_wanted"]) == ("storing", False)

    def test_given_up(self, backend: Backend) -> None:
        """Given up by the sweep, it ends as its user wanted it."""
        user = new_user()
        generation = backend.queued(user)
        backend.cancel(user, generation)
        assert backend.abandon(generation) == "refunded"
        assert ends(backend, generation) == ("canceled", None)


class TestDeadline:
    """The sweep's wish to stop what takes too long."""

    def test_stopped(self, backend: Backend) -> None:
        """It failed, for a reason of its own, and is refunded."""
        user = new_user()
        generation, provider_id = backend.processing(user)
        backend.stop(generation)
        backend.callback(provider_id, "canceled")
        assert ends(backend, generation) == ("failed", "deadline_exceeded")
        assert backend.ledger.balance(user) == REFUNDED

    def test_the_users_wish_comes_first(self, backend: Backend) -> None:
        """Wanted by both, it is the user's cancel, in either order."""
        for order in ("user first", "deadline first"):
            user = new_user()
            generation, _ = backend.processing(user)
            if order == "deadline first":
                backend.stop(generation)
            backend.cancel(user, generation)
            backend.stop(generation)
            backend.provider_state(generation, "canceled")
            assert ends(backend, generation) == ("canceled", None)

    def test_late_success(self, backend: Backend) -> None:
        """A success after the deadline's refund is charged again and delivered."""
        user = new_user()
        generation, provider_id = backend.processing(user)
        backend.stop(generation)
        backend.provider_state(generation, "canceled")
        assert backend.callback(provider_id, "succeeded")["status"] == "storing"
        assert backend.ledger.balance(user) == RESERVED


class TestSweep:
    """Wishes that nobody answered are the sweep's."""

    def test_soon(self, backend: Backend, clock: Clock) -> None:
        """It looks after fifteen seconds, not after the idle time, and says who wants it."""
        user = new_user()
        generation, _ = backend.processing(user)
        backend.cancel(user, generation)
        clock.advance(seconds=14)
        assert backend.claim(idle=3600) == []
        clock.advance(seconds=1)
        (claimed,) = backend.claim(idle=3600)
        assert (claimed["generation_id"], claimed["cancel_reason"]) == (generation, "user")

    def test_soon_after_the_id(self, backend: Backend, clock: Clock) -> None:
        """Who notes the provider's id is to cancel; if that one dies the sweep does."""
        user = new_user()
        generation = backend.queued(user)
        backend.cancel(user, generation)
        backend.submit(generation, "gen:1")
        clock.advance(seconds=15)
        assert [row["generation_id"] for row in backend.claim(idle=3600)] == [generation]

    def test_late_repetition(self, backend: Backend, clock: Clock) -> None:
        """A user who asks again and again does not keep the sweep away."""
        user = new_user()
        generation, _ = backend.processing(user)
        for _ in range(4):
            backend.cancel(user, generation)
            clock.advance(seconds=5)
        assert [row["generation_id"] for row in backend.claim(idle=3600)] == [generation]


class TestDispatch:
    """Whether the provider may have it."""

    def test_first_call_died(self, backend: Backend) -> None:
        """What was created may have been sent: sending it again is a replay."""
        generation = backend.queued()
        assert backend.begin_dispatch(generation) == {"outcome": "send", "is_replay": True}

    def test_after_busy(self, backend: Backend) -> None:
        """What the provider did not take is sent anew, and is a replay from then on."""
        generation = backend.queued()
        backend.unsent(generation)
        assert backend.begin_dispatch(generation) == {"outcome": "send", "is_replay": False}
        assert backend.begin_dispatch(generation) == {"outcome": "send", "is_replay": True}

    def test_no_longer_queued(self, backend: Backend) -> None:
        """What moved meanwhile is not sent again."""
        user = new_user()
        generation = backend.queued(user)
        backend.unsent(generation)
        backend.cancel(user, generation)
        assert backend.begin_dispatch(generation)["outcome"] == "not_queued"
        assert backend.begin_dispatch(backend.processing()[0])["outcome"] == "not_queued"

    def test_waking(self, backend: Backend, clock: Clock) -> None:
        """The sweep comes back when the provider said it would take more, not after the idle time."""
        generation = backend.queued()
        backend.unsent(generation, 40)
        clock.advance(seconds=39)
        assert backend.claim(idle=3600) == []
        clock.advance(seconds=1)
        assert [row["generation_id"] for row in backend.claim(idle=3600)] == [generation]

    def test_unsent_is_no_way_back(self, backend: Backend) -> None:
        """A late note that nothing was sent does not undo what is known by now."""
        generation, _ = backend.processing()
        assert backend.unsent(generation) == "ignored"
        assert backend.dispatch(generation)["sent_at"] is not None
