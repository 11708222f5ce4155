"""`make ops`: the table of what is stuck, reports, and commands that say what they will do first."""

from __future__ import annotations

import re

import pytest

from tests.clock import Clock
from tests.factories import Backend, Order, new_key, new_user
from tests.terminal import Terminal

pytestmark = pytest.mark.own_database


@pytest.fixture
def terminal(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return an operator's terminal."""
    return Terminal(backend, monkeypatch)


def test_nothing(terminal: Terminal) -> None:
    """Two lines say that all is well."""
    assert terminal.run() == 0
    assert terminal.printed == "intake: open\nstuck: nothing\n"


def test_what_why_and_since_when(terminal: Terminal, backend: Backend) -> None:
    """A row has the generation, its state, the reason, the age, the tries and the last error."""
    generation, _ = backend.processing()
    backend.db.connection("supabase_admin").execute(
        "update backend.dispatches set moved_at = now() - interval '3 hours'"
    )
    backend.claim()
    backend.postpone(generation, 600)
    backend.close_intake(generation)

    terminal.run()

    assert "intake: CLOSED" in terminal.printed
    (row,) = [line for line in terminal.printed.splitlines() if str(generation) in line]
    for word in ("processing", "provider has not finished", "3 h ago", "trouble", "3.000"):
        assert word in row


@pytest.mark.parametrize("typed", ["", "\n", "no\n"])
def test_asks_first(terminal: Terminal, backend: Backend, typed: str) -> None:
    """Without a yes it says what it would do, and does nothing."""
    user = new_user()
    generation = backend.queued(user)
    backend.unsent(generation)
    assert terminal.run("--refund", str(generation), typed=typed) == 1
    assert "3.000 credits reserved" in terminal.printed
    assert "nothing was done" in terminal.printed
    assert backend.status(generation) == "queued"


@pytest.mark.parametrize(("arguments", "typed"), [((), "y\n"), (("--yes",), "")])
def test_refund(
    terminal: Terminal, backend: Backend, arguments: tuple[str, ...], typed: str
) -> None:
    """With a yes, typed or given, it is done."""
    user = new_user()
    generation = backend.queued(user)
    backend.unsent(generation)
    assert terminal.run("--refund", str(generation), *arguments, typed=typed) == 0
    assert "It fails now" in terminal.printed
    assert backend.ledger.balance(user).available == 3


def test_what_is_said_is_what_happens(terminal: Terminal, backend: Backend) -> None:
    """What BabySea may work on is canceled there first; what is being stored ends by what is there."""
    running, _ = backend.processing()
    terminal.run("--refund", str(running), "--yes")
    assert "asks BabySea to cancel" in terminal.printed
    assert "refund: asking" in terminal.printed
    assert backend.status(running) == "processing"

    storing, _ = backend.storing()
    terminal.run("--refund", str(storing), "--yes")
    assert "with what is stored" in terminal.printed
    assert backend.dispatch(storing)["cancel_reason"] == "operator"


def test_retry(terminal: Terminal, backend: Backend, clock: Clock) -> None:
    """The next sweep takes it."""
    generation, _ = backend.storing()
    backend.postpone(generation, 900)
    assert clock.now()
    assert backend.claim(idle=3600) == []
    assert terminal.run("--retry", str(generation), "--yes") == 0
    assert [row["generation_id"] for row in backend.claim(idle=3600)] == [generation]


def test_what_is_over(terminal: Terminal, backend: Backend) -> None:
    """A finished generation is left as it is."""
    generation = backend.queued()
    backend.refuse(generation)
    assert terminal.run("--refund", str(generation), "--yes") == 1
    assert "nothing to do" in terminal.printed


class TestReports:
    """`REPORT=1`."""

    def test_nothing_yet(self, terminal: Terminal) -> None:
        """Each report of an empty database is one line."""
        assert terminal.run("--report") == 0

        lines = terminal.printed.splitlines()
        assert len(lines) == 6
        assert all(line.endswith(": nothing") for line in lines)

    def test_figures(self, terminal: Terminal, backend: Backend, clock: Clock) -> None:
        """Each table shows its figures; a purchase of yesterday is not in today's."""
        backend.checkout_event(backend.open_purchase(credits_=10, amount_minor=1000))
        clock.advance(days=1)
        backend.checkout_event(backend.open_purchase(credits_=25, amount_minor=2500))
        user = new_user()
        backend.ledger.grant(user, 3)
        done = backend.create(Order(user, 3, 2, model="baby/one"))["generation_id"]
        backend.db.connection("postgres").execute(
            """update backend.dispatches set price =
               '{"unit_credits": "0.5", "units_per_output": 1, "output_count": 2}'"""
        )
        provider_id = new_key("gen")
        backend.submit(done, provider_id)
        backend.callback(provider_id, "succeeded", urls=["https://m.test/0", "https://m.test/1"])
        backend.complete(done, 1)
        backend.refuse(backend.queued(), "content_rejected")
        waiting = backend.queued(cost=7)

        assert terminal.run("--report") == 0

        by_state, today, failed, revenue, refunds, oldest = re.split(
            r"(?<=╯|┘)\n(?=[a-z])", terminal.printed
        )
        for report, words in (
            (by_state, ("jobs by state", "succeeded", "failed", "queued")),
            (today, ("purchases today", "paid")),
            (failed, ("failed jobs", "baby/one", "content_rejected")),
            (revenue, ("revenue against provider cost", "all models")),
            (refunds, ("100.0 %", "4.500")),
            (oldest, ("oldest open reservation", str(waiting), "7.000")),
        ):
            for word in words:
                assert word in report, report
        assert terminal.cells("paid") == ["usd", "1", "2500", "25.000"]
        assert terminal.cells("all models") == ["2", "1.500", "1.000", "0.500"]
