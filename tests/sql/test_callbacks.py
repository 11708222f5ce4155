"""What the provider says, in every order: "The states" in docs/architecture.md."""

from __future__ import annotations

import itertools
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.factories import Backend, Balance, new_key, new_user


def inbox(backend: Backend, delivery: str) -> dict[str, object]:
    """Return a kept delivery."""
    return backend.db.row("select * from backend.inbox where delivery_id = %s", delivery)


class TestMarkSubmitted:
    """The provider accepted."""

    def test_submitted(self, backend: Backend) -> None:
        """An accepted generation is processing under the provider's id."""
        generation = backend.queued()

        answer = backend.submit(generation, new_key("gen"))

        assert answer == {
            "outcome": "submitted",
            "status": "processing",
            "is_cancel_wanted": False,
        }
        assert backend.states(generation) == ["queued", "processing"]

    def test_twice(self, backend: Backend) -> None:
        """The same id again changes nothing."""
        generation, provider_id = backend.processing()

        answer = backend.submit(generation, provider_id)

        assert (answer["outcome"], answer["status"]) == ("already_submitted", "processing")
        assert backend.states(generation) == ["queued", "processing"]

    def test_other_provider_id(self, backend: Backend) -> None:
        """A generation keeps its first id, and an id its first generation."""
        first, first_id = backend.processing()
        second = backend.queued()

        assert backend.submit(first, new_key("gen"))["outcome"] == "provider_id_conflict"
        assert backend.submit(second, first_id)["outcome"] == "provider_id_conflict"
        assert backend.status(second) == "queued"

    def test_unknown(self, backend: Backend) -> None:
        """An unknown generation is not_found."""
        assert backend.submit(uuid4(), new_key("gen"))["outcome"] == "not_found"


class TestMarkRefused:
    """The provider refused for good."""

    def test_refunded(self, backend: Backend) -> None:
        """A refusal for good fails the generation and refunds it at once."""
        user = new_user()
        generation = backend.queued(user, 3)

        assert backend.refuse(generation, "content_rejected") == "refunded"

        row = backend.generation(generation)
        assert (row["status"], row["error_code"]) == ("failed", "content_rejected")
        assert row["charged_credits"] == 0
        assert row["finished_at"] is not None
        assert backend.ledger.balance(user) == Balance(Decimal(3), Decimal(0), Decimal(0))

    def test_too_late(self, backend: Backend) -> None:
        """What the provider accepted, or what is over, cannot be refused."""
        processing, _ = backend.processing()
        refused = backend.queued()
        backend.refuse(refused)

        assert backend.refuse(processing) == "ignored"
        assert backend.refuse(refused) == "ignored"
        assert backend.refuse(uuid4()) == "not_found"


class TestCallback:
    """A callback of a known generation."""

    def test_success_waits_for_storage(self, backend: Backend) -> None:
        """A success moves to storing; nothing is charged before the outputs are stored."""
        generation, provider_id = backend.processing(cost=3)
        urls = ["https://media.test/0.png", "https://media.test/1.png"]

        answer = backend.callback(provider_id, "succeeded", urls=urls)

        assert (answer["outcome"], answer["status"]) == ("applied", "storing")
        assert answer["generation_id"] == generation
        assert backend.generation(generation)["charged_credits"] is None
        settlement = backend.calls.execute(
            "select * from backend.get_settlement(%s)", (generation,)
        ).fetchone()
        assert settlement is not None
        assert (settlement["status"], settlement["output_urls"]) == ("storing", urls)

    @pytest.mark.parametrize("status", ["failed", "canceled"])
    def test_failure_refunds(self, backend: Backend, status: str) -> None:
        """A failure or cancellation of the provider ends the generation with a refund."""
        user = new_user()
        generation, provider_id = backend.processing(user, 3)

        answer = backend.callback(provider_id, status, error_code="nsfw")

        assert (answer["outcome"], answer["status"]) == ("applied", status)
        assert backend.generation(generation)["error_code"] == "nsfw"
        assert backend.ledger.balance(user).available == 3
        assert backend.ledger.audit(user) == []

    @pytest.mark.parametrize("status", ["pending", "processing", "succeeded", "failed", "canceled"])
    def test_twice(self, backend: Backend, status: str) -> None:
        """The same delivery again is a duplicate; its answer still tells the state."""
        _, provider_id = backend.processing()
        delivery = new_key("msg")
        first = backend.callback(provider_id, status, delivery=delivery)
        kept = inbox(backend, delivery)

        again = backend.callback(provider_id, status, delivery=delivery)

        assert again == first | {"outcome": "duplicate"}
        assert inbox(backend, delivery) == kept

    def test_note(self, backend: Backend) -> None:
        """A delivery without a status is kept and changes nothing."""
        generation, provider_id = backend.processing()

        assert backend.callback(provider_id, None)["outcome"] == "noted"
        assert backend.status(generation) == "processing"

    @pytest.mark.parametrize("known", [True, False])
    def test_unknown_status(self, backend: Backend, *, known: bool) -> None:
        """A status we do not know is refused and not kept: parked, it would come back for ever."""
        provider_id = backend.processing()[1] if known else new_key("gen")
        delivery = new_key("msg")

        with pytest.raises(psycopg.errors.RaiseException):
            backend.callback(provider_id, "exploded", delivery=delivery)

        assert backend.db.rows("select from backend.inbox where delivery_id = %s", delivery) == []

    def test_success_without_outputs(self, backend: Backend) -> None:
        """A success that names no file is a success of nothing, and no later one reopens it."""
        user = new_user()
        generation, provider_id = backend.processing(user, 3)
        note = '{"status": "succeeded"}'
        for _ in range(2):
            backend.calls.execute(
                "select backend.record_callback(%s, 'x', %s, %s::jsonb)",
                (new_key("msg"), provider_id, note),
            )
        assert backend.complete(generation, 0) == "failed"

        assert backend.callback(provider_id, "succeeded")["outcome"] == "duplicate"
        assert backend.status(generation) == "failed"
        assert backend.ledger.balance(user).available == 3

    def test_second_success_is_not_left_parked(self, backend: Backend) -> None:
        """Another delivery of a success is kept as the duplicate it is, not as one that waits."""
        _, provider_id = backend.storing()
        delivery = new_key("msg")

        assert (
            backend.callback(provider_id, "succeeded", delivery=delivery)["outcome"] == "duplicate"
        )
        assert inbox(backend, delivery)["outcome"] == "duplicate"


class TestEarlyCallback:
    """A callback quicker than our own note of the provider's id."""

    @pytest.mark.parametrize(
        ("status", "then"),
        [("processing", "processing"), ("succeeded", "storing"), ("failed", "failed")],
    )
    def test_parked_then_applied(self, backend: Backend, status: str, then: str) -> None:
        """A callback quicker than our own note waits, and takes effect with that note."""
        generation = backend.queued()
        provider_id, delivery = new_key("gen"), new_key("msg")
        early = backend.callback(provider_id, status, delivery=delivery)
        assert early == {"outcome": "parked", "generation_id": None, "status": None}

        answer = backend.submit(generation, provider_id)

        assert (answer["outcome"], answer["status"]) == ("submitted", then)
        kept = inbox(backend, delivery)
        assert kept["generation_id"] == generation
        assert kept["outcome"] == ("ignored" if status == "processing" else "applied")

    def test_parked_twice(self, backend: Backend) -> None:
        """A parked delivery that comes again stays parked once."""
        generation = backend.queued()
        provider_id, delivery = new_key("gen"), new_key("msg")
        backend.callback(provider_id, "succeeded", delivery=delivery)
        again = backend.callback(provider_id, "succeeded", delivery=delivery)
        assert again["outcome"] == "duplicate"

        backend.submit(generation, provider_id)

        assert backend.states(generation) == ["queued", "processing", "storing"]

    def test_several_parked(self, backend: Backend) -> None:
        """All that waited is applied, and the states never run backwards."""
        generation = backend.queued()
        provider_id = new_key("gen")
        for status in ("processing", "succeeded", "processing", "failed"):
            backend.callback(provider_id, status)

        assert backend.submit(generation, provider_id)["status"] == "storing"
        left = backend.db.rows(
            "select from backend.inbox where provider_generation_id = %s and outcome = 'parked'",
            provider_id,
        )
        assert left == []

    def test_parked_for_another(self, backend: Backend) -> None:
        """What waits for one provider id is not given to another."""
        backend.callback(new_key("gen"), "failed")
        generation = backend.queued()

        assert backend.submit(generation, new_key("gen"))["status"] == "processing"

    def test_without_an_id(self, backend: Backend) -> None:
        """A delivery that names no generation is kept and touches none."""
        assert backend.callback(None, "failed")["outcome"] == "parked"


class TestLateSuccess:
    """A success after the refund."""

    def test_charged_again(self, backend: Backend) -> None:
        """A success after the refund reserves again, and only then delivers; once."""
        user = new_user()
        generation, provider_id = backend.processing(user, 3)
        backend.callback(provider_id, "failed")

        late = backend.callback(provider_id, "succeeded")

        assert (late["outcome"], late["status"]) == ("applied", "storing")
        assert backend.generation(generation)["charged_credits"] is None
        assert backend.ledger.balance(user) == Balance(Decimal(0), Decimal(3), Decimal(0))
        assert backend.complete(generation, 1) == "succeeded"
        assert backend.callback(provider_id, "succeeded")["outcome"] == "duplicate"
        assert backend.ledger.balance(user) == Balance(Decimal(0), Decimal(0), Decimal(0))
        assert backend.generation(generation)["charged_credits"] == 3
        assert backend.generation(generation)["error_code"] is None
        assert backend.states(generation) == [
            "queued",
            "processing",
            "failed",
            "storing",
            "succeeded",
        ]
        assert backend.ledger.audit(user) == []

    def test_reopened_is_swept_again(self, backend: Backend) -> None:
        """A generation that was over and is storing again is unfinished for the sweep too."""
        generation, provider_id = backend.processing(cost=0)
        backend.callback(provider_id, "failed")
        backend.callback(provider_id, "succeeded")

        row = backend.db.row(
            "select d.finished_at as dispatch, g.finished_at as generation"
            " from backend.dispatches d join generations g on g.id = d.generation_id"
            " where g.id = %s",
            generation,
        )
        assert row == {"dispatch": None, "generation": None}

    def test_withheld(self, backend: Backend) -> None:
        """When the refunded credits are spent the output is withheld: never free, never owed."""
        user = new_user()
        generation, provider_id = backend.processing(user, 3)
        backend.callback(provider_id, "failed")
        backend.ledger.settle(backend.ledger.reserve(user, 1), 1)

        assert backend.callback(provider_id, "succeeded")["outcome"] == "withheld"

        assert backend.status(generation) == "failed"
        assert backend.complete(generation, 1) == "already_final"
        assert backend.ledger.balance(user) == Balance(Decimal(2), Decimal(0), Decimal(0))
        assert backend.ledger.audit(user) == []

    def test_withheld_stays_withheld(self, backend: Backend) -> None:
        """A copy of a withheld success does not charge after a top-up: the decision was made once."""
        user = new_user()
        generation, provider_id = backend.processing(user, 3)
        backend.callback(provider_id, "failed")
        backend.ledger.settle(backend.ledger.reserve(user, 3), 3)
        backend.callback(provider_id, "succeeded")
        backend.ledger.grant(user, 10)

        assert backend.callback(provider_id, "succeeded")["outcome"] == "duplicate"
        assert backend.provider_state(generation, "succeeded")["outcome"] == "duplicate"
        assert backend.ledger.balance(user).available == 10

    def test_after_the_output_was_lost(self, backend: Backend) -> None:
        """A failure to store is final: a copy of the success does not open it again."""
        user = new_user()
        generation, provider_id = backend.storing(user, 3)
        assert backend.complete(generation, 0) == "failed"

        assert backend.callback(provider_id, "succeeded")["outcome"] == "duplicate"
        assert backend.status(generation) == "failed"
        assert backend.ledger.balance(user).available == 3


class TestOutOfOrder:
    """Callbacks in every order."""

    @pytest.mark.parametrize("late", ["pending", "processing", "failed", "canceled"])
    @pytest.mark.parametrize("stored", [False, True])
    def test_after_a_success(self, backend: Backend, late: str, *, stored: bool) -> None:
        """Nothing that arrives after a success takes it back."""
        generation, provider_id = backend.storing()
        if stored:
            backend.complete(generation, 1)
        before = backend.generation(generation)

        assert backend.callback(provider_id, late)["outcome"] == "ignored"
        assert backend.generation(generation) == before

    @pytest.mark.parametrize("end", ["failed", "canceled"])
    @pytest.mark.parametrize("late", ["pending", "processing", "failed", "canceled"])
    def test_after_an_end(self, backend: Backend, end: str, late: str) -> None:
        """A generation that ended stays as it ended, refunded once."""
        user = new_user()
        generation, provider_id = backend.processing(user, 3)
        backend.callback(provider_id, end)
        before = backend.generation(generation), backend.ledger.books(user)

        assert backend.callback(provider_id, late)["outcome"] == "ignored"
        assert (backend.generation(generation), backend.ledger.books(user)) == before

    @pytest.mark.parametrize(
        "order",
        list(itertools.permutations(["submit", "processing", "succeeded", "failed"])),
        ids="-".join,
    )
    def test_every_order(self, backend: Backend, order: tuple[str, ...]) -> None:
        """However a contradicting provider is heard, money and state end together."""
        user = new_user()
        generation, provider_id = backend.queued(user, 3), new_key("gen")
        for step in order:
            if step == "submit":
                backend.submit(generation, provider_id)
            else:
                backend.callback(provider_id, step)
        if backend.status(generation) == "storing":
            assert backend.complete(generation, 1) == "succeeded"

        # a success always wins here: it comes first, or is charged again
        assert backend.status(generation) == "succeeded"
        assert backend.ledger.balance(user) == Balance(Decimal(0), Decimal(0), Decimal(0))
        assert backend.ledger.audit(user) == []


def test_every_change_of_state_is_an_event(backend: Backend) -> None:
    """Each event names the state before and after, so that the history has no gap."""
    generation, _ = backend.storing()
    backend.complete(generation, 1)

    events = backend.db.rows(
        "select from_status, to_status from generation_events where generation_id = %s order by id",
        generation,
    )

    chain = [event["to_status"] for event in events]
    assert chain == ["queued", "processing", "storing", "succeeded"]
    assert [event["from_status"] for event in events] == [None, *chain[:-1]]


def test_settlement_of_nothing(backend: Backend) -> None:
    """An unknown generation has nothing to settle."""
    row = backend.calls.execute(
        "select status from backend.get_settlement(%s)", (UUID(int=0),)
    ).fetchone()

    assert row == {"status": None}
