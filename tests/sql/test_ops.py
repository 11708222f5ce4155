"""`make ops`: the table of what is stuck, and commands that say what they will do first."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.clock import Clock
from tests.factories import Backend, new_user
from tools import ops

pytestmark = pytest.mark.own_database


class Terminal:
    """Run the command as an operator would, with what is typed given before."""

    def __init__(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_URL", backend.db.url("postgres"))
        self._monkeypatch = monkeypatch
        self.printed = ""

    def run(self, *arguments: str, typed: str = "") -> int:
        """Return the exit status; `printed` is what it said."""
        self._monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        console = Console(file=io.StringIO(), width=240, highlight=False)
        status = ops.main(list(arguments), console)
        assert isinstance(console.file, io.StringIO)
        self.printed = console.file.getvalue()
        return status


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
