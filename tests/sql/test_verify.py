"""`make verify`: the books of a whole database, proven or their faults named."""

from __future__ import annotations

import io
from typing import LiteralString

import pytest
from rich.console import Console

from tests.factories import Ledger, new_user
from tools import verify

pytestmark = pytest.mark.own_database


class Books:
    """A ledger with sealed entries, somebody who tampers with it, and the command."""

    def __init__(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_URL", ledger.db.url("postgres"))
        self.ledger = ledger
        self.user = new_user()
        ledger.grant(self.user, 10)
        ledger.settle(ledger.reserve(self.user, 4), 4)
        self.seal()
        self.printed = ""

    def seal(self) -> None:
        """Seal as the sweep does: what was complete at the call before."""
        for _ in range(2):
            self.ledger.call("select sealed from ledger.seal()")

    def tamper(self, statement: LiteralString) -> None:
        """Change a table with every right there is, past every trigger."""
        admin = self.ledger.db.connection("supabase_admin")
        with admin.transaction():
            admin.execute("set local session_replication_role = replica")
            admin.execute(statement)

    def verify(self, *arguments: str) -> int:
        """Return the exit status; `printed` is what it said."""
        console = Console(file=io.StringIO(), width=240, highlight=False)
        status = verify.main(list(arguments), console)
        assert isinstance(console.file, io.StringIO)
        self.printed = console.file.getvalue()
        return status

    def noted(self) -> str:
        """Return the newest seal as the command prints it."""
        assert self.verify() == 0
        return self.printed.rpartition("newest seal: ")[2].strip()


@pytest.fixture(name="books")
def _books(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Books:
    return Books(ledger, monkeypatch)


def test_books_are_right(books: Books) -> None:
    """Two lines say that nothing is wrong, a third names the newest seal."""
    assert books.verify() == 0

    first, second, third = books.printed.splitlines()
    assert first == "ledger.audit(): nothing wrong"
    assert second == "ledger.verify(): nothing wrong"
    assert third.startswith("newest seal: 1:")


def test_a_broken_invariant(books: Books) -> None:
    """The exit status is 1, and the user, the invariant and both figures are there."""
    books.tamper("update credit_balances set owed = 3, available = 0")
    books.tamper("update credit_grants set remaining = 0")

    assert books.verify() == 1

    assert "ledger.audit(): 2 problems" in books.printed
    (row,) = [line for line in books.printed.splitlines() if "owed is the sum" in line]
    for word in (str(books.user), "0.000", "3.000"):
        assert word in row
    assert "ledger.verify(): nothing wrong" in books.printed


def test_a_changed_entry(books: Books) -> None:
    """An entry that was changed without breaking a sum is named by its number."""
    books.tamper("update credit_ledger set description = 'a gift' where type = 'grant'")

    assert books.verify() == 1

    assert "ledger.audit(): nothing wrong" in books.printed
    assert "ledger.verify(): 1 problems" in books.printed
    (row,) = [line for line in books.printed.splitlines() if "changed" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["1", "1", "changed"]


def test_a_noted_seal(books: Books) -> None:
    """A seal noted from the sweep's log is found again, also after others."""
    noted = books.noted()
    books.ledger.grant(new_user(), 1)
    books.seal()

    assert books.verify("--seal", noted) == 0


def test_a_chain_written_anew(books: Books) -> None:
    """A rewritten chain is right in itself; only the noted seal gives it away."""
    noted = books.noted()
    books.tamper("update credit_ledger set description = 'a gift' where type = 'grant'")
    books.tamper("truncate ledger.seals, ledger.seal_horizon restart identity")
    books.seal()

    assert books.verify() == 0
    assert books.verify("--seal", noted) == 1
    assert "the seal is not the one that was noted" in books.printed


@pytest.mark.parametrize("seal", ["nonsense", ":", "x:00"])
def test_a_seal_that_is_none(books: Books, capsys: pytest.CaptureFixture[str], seal: str) -> None:
    """What is no ID:HASH is refused before anything is looked at."""
    with pytest.raises(SystemExit) as refused:
        books.verify("--seal", seal)

    assert refused.value.code == 2
    assert "--seal" in capsys.readouterr().err


def test_no_database(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without DATABASE_URL the command says what it needs."""
    monkeypatch.delenv("DATABASE_URL")

    with pytest.raises(SystemExit) as refused:
        books.verify()

    assert refused.value.code == 2
