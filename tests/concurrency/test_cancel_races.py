"""Cancel against everything else that ends a generation: thousands of meetings, one ending each."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.database import Connection
from tests.factories import Backend, new_key, new_user, outputs
from tests.racing import Step, first_value, outcome_or_sqlstate

SUCCEEDED = json.dumps({"status": "succeeded", "output_urls": ["https://media.test/0.png"]})
FAILED = json.dumps({"status": "failed"})
CANCELED = json.dumps({"status": "canceled"})
ROUNDS = 150
"""Of each pair; there are 28 pairs, and each round is a meeting of two."""


def call(query: Any, *params: object) -> Step:
    """Return a step that runs one statement and returns its outcome, or the SQLSTATE it raised."""
    return outcome_or_sqlstate(lambda connection: first_value(connection, query, params))


def moves(user: UUID, generation: UUID, provider_id: str) -> dict[str, Step]:
    """Return everything that can happen to a generation that was sent."""
    state = "select (backend.record_provider_state(%s, %s, %s, null, null)).outcome"
    callback = "select (backend.record_callback(%s, 'e', %s, %s::jsonb)).outcome"
    return {
        "cancel": call("select (backend.request_cancel(%s, %s)).outcome", user, generation),
        "canceled": call(state, generation, "canceled", "[]"),
        "deadline": call("select backend.request_stop(%s, 'deadline')::text", generation),
        "success": call(callback, new_key(), provider_id, SUCCEEDED),
        "failure": call(callback, new_key(), provider_id, FAILED),
        "canceled callback": call(callback, new_key(), provider_id, CANCELED),
        "submit": call("select (backend.mark_submitted(%s, %s)).outcome", generation, provider_id),
        "complete": call(
            "select backend.complete_generation(%s, %s::jsonb)",
            generation,
            json.dumps(outputs(1)),
        ),
        "abandon": call("select backend.abandon(%s, 'x')", generation),
        "claim": call("select count(*) from backend.claim_stuck(5, 0, 1)"),
        "unsent": call("select backend.mark_unsent(%s, 1, 'x')", generation),
        "send": call("select (backend.begin_dispatch(%s)).outcome", generation),
        "lease": call("select backend.begin_settlement(%s, %s, 60)", generation, new_key()),
    }


def check(backend: Backend, user: UUID, generation: UUID) -> str:
    """Check that it ended at most once, and return the state."""
    status = backend.status(generation)
    kinds = Counter(backend.ledger.kinds(user))
    assert kinds["reserve"] - kinds["charge"] - kinds["refund"] == (
        status in {"queued", "processing", "storing"}
    )
    states = backend.states(generation)
    if "late success" not in _reasons(backend, generation):
        final = [each for each in states if each in {"succeeded", "failed", "canceled"}]
        assert len(set(final)) <= 1, states
        assert kinds["charge"] + kinds["refund"] <= 1
    return status


def _reasons(backend: Backend, generation: UUID) -> set[str]:
    found = backend.db.rows(
        "select reason from generation_events where generation_id = %s", generation
    )
    return {row["reason"] for row in found}


def meet(backend: Backend, rounds: int, make: Callable[[], tuple[Step, ...]]) -> None:
    """Let the steps of `make` meet so many times, each on a connection that is kept."""
    first = make()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(first)) as pool:
        ready = [stack.enter_context(backend.db.connect("holdfast_backend")) for _ in first]
        for number in range(rounds):
            barrier = Barrier(len(first), timeout=30)

            def run(step: Step, connection: Connection, barrier: Barrier = barrier) -> Any:
                barrier.wait()
                return step(connection)

            results = list(pool.map(run, make() if number else first, ready))
            assert not {"40P01", "40001", "P0001", "23505", "55000"} & set(results), results


PAIRS = list(
    itertools.combinations(
        ["cancel", "canceled", "success", "failure", "submit", "complete", "abandon", "unsent"], 2
    )
)


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_pairs(backend: Backend, one: str, other: str) -> None:
    """Whichever two meet, from whichever state: one settlement at most, and none is lost."""
    made: list[tuple[UUID, UUID]] = []
    starts = itertools.cycle(("queued", "processing", "storing", "wanted"))

    def make() -> tuple[Step, ...]:
        user = new_user()
        start = next(starts)
        provider_id = new_key("gen")
        if start == "queued":
            generation = backend.queued(user)
        elif start == "storing":
            generation, provider_id = backend.storing(user)
        else:
            generation, provider_id = backend.processing(user)
        if start == "wanted":
            backend.cancel(user, generation)
        made.append((user, generation))
        possible = moves(user, generation, provider_id)
        return possible[one], possible[other]

    meet(backend, ROUNDS, make)

    for user, generation in made:
        check(backend, user, generation)
    assert backend.ledger.audit() == []


def test_all_at_once(backend: Backend) -> None:
    """Everything that can happen to one generation, at the same moment: one charge or one refund, or still open."""
    made: list[tuple[UUID, UUID]] = []

    def make() -> tuple[Step, ...]:
        user = new_user()
        generation, provider_id = (
            backend.processing(user) if len(made) % 2 else (backend.queued(user), str(uuid4()))
        )
        made.append((user, generation))
        return tuple(moves(user, generation, provider_id).values())

    meet(backend, 200, make)

    ended = Counter(check(backend, user, generation) for user, generation in made)
    assert ended["canceled"] > 0
    assert backend.ledger.audit() == []


def test_cancel_and_success_have_both_endings(backend: Backend) -> None:
    """The confirmed cancel and the success meet: whoever is first decides, and both happen."""
    ended = Counter[str]()
    made: list[tuple[UUID, UUID]] = []

    def make() -> tuple[Step, ...]:
        user = new_user()
        generation, provider_id = backend.processing(user)
        backend.cancel(user, generation)
        made.append((user, generation))
        possible = moves(user, generation, provider_id)
        pair = (possible["canceled"], possible["success"])
        return pair if len(made) % 2 else pair[::-1]

    meet(backend, 400, make)

    for user, generation in made:
        status = check(backend, user, generation)
        ended[status] += 1
        if status == "storing":
            assert backend.complete(generation, 1) == "succeeded"
            assert backend.ledger.balance(user).available == Decimal(0)
        else:
            assert backend.ledger.balance(user).available == Decimal(3)
    assert set(ended) == {"storing", "canceled"}


def test_leases_are_exclusive(backend: Backend) -> None:
    """Eight workers with eight messages: one gets the generation."""
    leases = Counter[str]()

    def lease(generation: UUID) -> Step:
        def run(connection: Connection) -> None:
            query = "select backend.begin_settlement(%s, %s, 60)"
            leases[first_value(connection, query, (generation, new_key()))] += 1

        return run

    def make() -> tuple[Step, ...]:
        generation, _ = backend.storing(cost=0)
        return tuple(lease(generation) for _ in range(8))

    meet(backend, 40, make)

    assert leases == {"leased": 40, "busy": 280}


def test_the_intake_under_fire(backend: Backend) -> None:
    """Closing, opening, creating and accepting at once: no deadlock, and the books are right."""

    def make() -> tuple[Step, ...]:
        users = [new_user() for _ in range(2)]
        refused, accepted = backend.queued(users[0]), backend.queued(users[1])
        early = new_key("gen")
        backend.callback(early, "failed")
        return (
            call("select (backend.close_intake(%s)).closures::text", refused),
            call("select backend.mark_refused(%s, 'x', null)", refused),
            call("select (backend.mark_submitted(%s, %s)).outcome", accepted, early),
            call("select backend.open_intake()::text"),
        )

    # `queued` asks the intake too: it has to be open again before each round
    def open_and_make() -> tuple[Step, ...]:
        backend.calls.execute("select backend.open_intake()")
        return make()

    meet(backend, 100, open_and_make)
    backend.calls.execute("select backend.open_intake()")
    assert backend.ledger.audit() == []
