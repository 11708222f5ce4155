"""
Every pair of calls that meet on the same money, overlapped on purpose.

The second call starts while the transaction of the first is open. Whatever they do to each other, outcomes and books
must be those of one call after the other, in one of the two orders.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.database import TestDatabase
from tests.factories import Backend, Ledger, new_key, new_user, outputs
from tests.racing import Step, first_value, outcome_or_sqlstate, overlap

Steps = dict[str, Step]
Story = Callable[[], tuple[Steps, Callable[[], object]]]
SUCCEEDED = json.dumps({"status": "succeeded", "output_urls": ["https://media.test/0.png"]})
FAILED = json.dumps({"status": "failed"})


def call(query: Any, *params: object) -> Step:
    """Return a step that runs one statement and returns its outcome, or the SQLSTATE it raised."""
    return outcome_or_sqlstate(lambda connection: first_value(connection, query, params))


def assert_serial(db: TestDatabase, story: Story, first: str, second: str) -> None:
    """Fail unless two overlapping steps of a story end like one after the other."""

    def end(order: Callable[[Steps], list[object]]) -> object:
        steps, books = story()
        return order(steps), books()

    def forward(steps: Steps) -> list[object]:
        return [steps[first](backend), steps[second](backend)]

    def backward(steps: Steps) -> list[object]:
        return [steps[second](backend), steps[first](backend)][::-1]

    backend = db.connection("holdfast_backend")
    overlapped = end(lambda steps: list(overlap(db, steps[first], steps[second])))

    assert overlapped in (end(forward), end(backward))


LEDGER_STEPS = (
    "reserve",
    "reserve rest",
    "settle none",
    "settle part",
    "settle all",
    "grant",
    "claw back",
    "restore",
)


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.product(LEDGER_STEPS, repeat=2)), ids=str
)
def test_ledger(ledger: Ledger, first: str, second: str) -> None:
    """Two calls on one user's credits end as if one had waited for the other."""
    assert_serial(ledger.db, lambda: _ledger_story(ledger), first, second)


def _ledger_story(ledger: Ledger) -> tuple[Steps, Callable[[], object]]:
    user = new_user()
    pack = ledger.grant(user, 10)
    ledger.grant(user, 3)
    reservation = ledger.reserve(user, 8)
    ledger.reverse(pack, 4)
    fresh, key, reversals = uuid4(), new_key(), [new_key("re"), new_key("re")]
    steps = {
        "reserve": call("select ledger.reserve(%s, %s, 1)", user, fresh),
        "reserve rest": call("select ledger.reserve(%s, %s, 1)", user, uuid4()),
        "settle none": call("select ledger.settle(%s, 0)", reservation),
        "settle part": call("select ledger.settle(%s, 2.5)", reservation),
        "settle all": call("select ledger.settle(%s, 8)", reservation),
        "grant": call("select ledger.grant(%s, 'pack', %s, 5)", user, key),
        "claw back": call("select ledger.reverse(%s, %s, 10)", pack, reversals[0]),
        "restore": call("select ledger.reverse(%s, %s, 1)", pack, reversals[1]),
    }

    def books() -> object:
        assert ledger.audit(user) == []
        grants = [(row["remaining"], row["reversed"]) for row in ledger.grants(user).values()]
        return ledger.balance(user), grants, sorted(ledger.kinds(user))

    return steps, books


# what can do something in a state, or could if it did not look
GENERATION_STEPS = {
    "queued": ("submit", "success", "failure", "refuse", "abandon", "cancel", "unsent"),
    "processing": ("success", "failure", "ask: success", "abandon", "cancel", "ask: canceled"),
    "storing": ("complete", "lose", "success", "abandon", "cancel"),
    "failed": ("success", "ask: success", "complete"),
}


@pytest.mark.parametrize(
    ("state", "first", "second"),
    [
        (state, *pair)
        for state, steps in GENERATION_STEPS.items()
        for pair in itertools.product(steps, repeat=2)
    ],
    ids=str,
)
def test_generation(backend: Backend, state: str, first: str, second: str) -> None:
    """Two calls about one generation end as if one had waited for the other, money and state alike."""
    assert_serial(backend.db, lambda: _generation_story(backend, state), first, second)


def _generation_story(backend: Backend, state: str) -> tuple[Steps, Callable[[], object]]:
    user, provider_id = new_user(), new_key("gen")
    generation = backend.queued(user, 3)
    if state != "queued":
        backend.submit(generation, provider_id)
    if state == "storing":
        backend.callback(provider_id, "succeeded")
    if state == "failed":
        backend.callback(provider_id, "failed")
    deliver = "select (backend.record_callback(%s, 'e', %s, %s::jsonb)).outcome"
    ask = "select (backend.record_provider_state(%s, %s, %s::jsonb, null, null)).outcome"
    complete = "select backend.complete_generation(%s, %s::jsonb)"
    steps = {
        "submit": call("select (backend.mark_submitted(%s, %s)).outcome", generation, provider_id),
        "success": call(deliver, new_key("msg"), provider_id, SUCCEEDED),
        "failure": call(deliver, new_key("msg"), provider_id, FAILED),
        "ask: success": call(ask, generation, "succeeded", '["https://media.test/0.png"]'),
        "refuse": call("select backend.mark_refused(%s, 'x', 'x')", generation),
        "abandon": call("select backend.abandon(%s, 'x')", generation),
        "ask: canceled": call(ask, generation, "canceled", "[]"),
        "cancel": call("select (backend.request_cancel(%s, %s)).outcome", user, generation),
        "unsent": call("select backend.mark_unsent(%s, 1, 'x')", generation),
        "complete": call(complete, generation, json.dumps(outputs(1))),
        "lose": call(complete, generation, "[]"),
    }
    return steps, lambda: _generation_books(backend, generation, user)


def _generation_books(backend: Backend, generation: UUID, user: UUID) -> object:
    assert backend.ledger.audit(user) == []
    row = backend.generation(generation)
    charged = backend.db.value(
        "select coalesce(sum(charged), 0) from credit_reservations where user_id = %s", user
    )
    assert (row["charged_credits"] or 0) == charged
    return (
        row["status"],
        charged,
        row["outputs"],
        backend.ledger.balance(user),
        backend.states(generation),
        sorted(backend.ledger.kinds(user)),
    )
