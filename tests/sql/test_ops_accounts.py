"""`make ops` on accounts: shown before it is done, asked, done once a key, recorded; or refused by a sentence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.factories import Backend, Balance, sign_up
from tests.terminal import Terminal

ROOT = Path(__file__).parents[2]
WHY = ("--reason", "ticket 123 [sic]")


@pytest.fixture
def terminal(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return an operator's terminal."""
    return Terminal(backend, monkeypatch)


def actions(backend: Backend, user: UUID) -> list[dict[str, Any]]:
    """Return what is recorded of people with power over the user."""
    return backend.db.rows(
        "select * from backend.admin_actions where user_id = %s order by id", user
    )


def available(backend: Backend, user: UUID) -> Decimal:
    """Return what the user can spend."""
    return backend.ledger.balance(user).available


class TestAdjust:
    """Credits by hand: `ADJUST=user CREDITS=n REASON=...`."""

    def test_give_and_take(self, terminal: Terminal, backend: Backend) -> None:
        """The balance moves as the table before the question said, and who, why and how much is recorded."""
        user = sign_up(backend.db)

        for credits_, before, after in (("-4", "10.000", "6.000"), ("2.5", "6.000", "8.500")):
            arguments = ("--adjust", str(user), "--credits", credits_, *WHY)
            assert terminal.run(*arguments, typed="y\n") == 0
            assert terminal.cells("available") == [before, after]
            assert "ticket 123 [sic]" in terminal.printed
            assert "adjust: adjusted" in terminal.printed

        assert backend.ledger.balance(user) == Balance(Decimal("8.5"), Decimal(0), Decimal(0))
        found = actions(backend, user)
        assert [row["amount"] for row in found] == [-4, Decimal("2.5")]
        assert {row["reason"] for row in found} == {"ticket 123 [sic]"}
        assert all(re.fullmatch(r"operator:\S+", row["actor"]) for row in found)
        assert backend.ledger.audit(user) == []

    def test_what_will_be_is_known_before(self, terminal: Terminal, backend: Backend) -> None:
        """What else a change moves is in the table: here debt is paid first."""
        user = sign_up(backend.db)
        backend.ledger.settle(backend.ledger.reserve(user, 10), 10)
        backend.ledger.reverse(f"welcome:{user}", 4)

        assert terminal.run("--adjust", str(user), "--credits", "5", *WHY, typed="n\n") == 1

        assert terminal.cells("owed") == ["4.000", "0.000"]
        assert terminal.cells("available") == ["0.000", "1.000"]
        assert backend.ledger.balance(user).owed == 4

    @pytest.mark.parametrize("typed", ["", "\n", "no\n"])
    def test_no_is_no(self, terminal: Terminal, backend: Backend, typed: str) -> None:
        """Without a yes nothing is changed, although the change was rehearsed."""
        user = sign_up(backend.db)

        assert terminal.run("--adjust", str(user), "--credits", "-4", *WHY, typed=typed) == 1

        assert terminal.printed.endswith("nothing was done\n")
        assert available(backend, user) == 10
        assert actions(backend, user) == []

    def test_once_a_key(self, terminal: Terminal, backend: Backend) -> None:
        """The printed key makes a repeat a duplicate; with another amount or command it is a conflict."""
        user = sign_up(backend.db)
        adjust = ("--adjust", str(user), "--credits")
        terminal.run(*adjust, "-4", *WHY, "--yes")
        (key,) = re.findall(r"KEY=(\S+)", terminal.printed)

        assert terminal.run(*adjust, "-4", *WHY, "--key", key) == 0
        assert "adjust: duplicate, done 0 s ago by operator:" in terminal.printed
        assert terminal.run(*adjust, "-5", *WHY, "--key", key, "--yes") == 1
        assert "used for something else" in terminal.printed
        role = ("--role", "admin", "--user-id", str(user))
        assert terminal.run(*role, *WHY, "--key", key, "--yes") == 1
        assert "used for something else" in terminal.printed

        assert available(backend, user) == 6
        assert len(actions(backend, user)) == 1

    @pytest.mark.parametrize(
        ("credits_", "reason", "sentence"),
        [
            ("-10.001", "ticket 123", "so many credits are not available"),
            ("0", "ticket 123", "CREDITS= is above zero to give, below zero to take"),
            ("0.0001", "ticket 123", "at most 3 decimals"),
            ("NaN", "ticket 123", "is a number of credits"),
            ("1e9", "ticket 123", "is a number of credits"),
            ("", "ticket 123", "is a number of credits"),
            ("99999999999", "ticket 123", "more than an account can hold"),
            ("1", " x ", "REASON= says why"),
            ("1", "", "REASON= says why"),
        ],
    )
    def test_bad_amounts_and_reasons(
        self, terminal: Terminal, backend: Backend, credits_: str, reason: str, sentence: str
    ) -> None:
        """What cannot be done is refused by a sentence before the question, and nothing is changed."""
        user = sign_up(backend.db)
        arguments = ("--adjust", str(user), f"--credits={credits_}", "--reason", reason, "--yes")

        assert terminal.run(*arguments) == 1

        assert sentence in terminal.printed
        assert "nothing was done" in terminal.printed
        assert available(backend, user) == 10
        assert actions(backend, user) == []

    @pytest.mark.parametrize("user", ["99999999-9999-4999-8999-999999999999", "ann", ""])
    def test_nobody(self, terminal: Terminal, backend: Backend, user: str) -> None:
        """A user whom Auth does not know gets nothing, and no account."""
        for command in (("--adjust", user, "--credits", "5"), ("--role=admin", "--user-id", user)):
            assert terminal.run(*command, *WHY, "--yes") == 1
            assert re.search("no such user|is no user's id", terminal.printed)

        assert backend.db.rows("select from public.profiles where user_id::text = %s", user) == []
        assert (
            backend.db.rows("select from public.credit_ledger where user_id::text = %s", user) == []
        )

    def test_as_the_functions(
        self, terminal: Terminal, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The functions' role is told that it may not."""
        user = sign_up(backend.db)
        monkeypatch.setenv("DATABASE_URL", backend.db.url("holdfast_backend"))

        assert terminal.run("--adjust", str(user), "--credits", "5", *WHY, "--yes") == 1

        assert "only the owner may do this" in terminal.printed
        assert available(backend, user) == 10

    def test_through_make(self, backend: Backend) -> None:
        """`make ops` passes on an amount below zero, and a reason with whatever a shell would read in it."""
        user = sign_up(backend.db)
        reason = 'it\'s $5 "off" `id` $(id) #1'
        make = shutil.which("make")
        assert make

        subprocess.run(
            [
                make,
                "ops",
                f"ADJUST={user}",
                "CREDITS=-4",
                f"REASON={reason}",
                "YES=1",
                f"KEY={user} 1",
            ],
            check=True,
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": backend.db.url("postgres")},
            capture_output=True,
        )

        (row,) = actions(backend, user)
        assert (row["key"], row["amount"], row["reason"]) == (f"{user} 1", -4, reason)


class TestRole:
    """`ROLE=admin USER_ID=user REASON=...`."""

    def test_give_and_take_away(self, terminal: Terminal, backend: Backend) -> None:
        """The role is shown before and after, and changed."""
        user = sign_up(backend.db)

        for before, after in (("user", "admin"), ("admin", "user")):
            assert terminal.run("--role", after, "--user-id", str(user), *WHY, "--yes") == 0
            assert terminal.cells("role") == [before, after]
            assert "role: changed" in terminal.printed
            assert (
                backend.db.value("select role from public.profiles where user_id = %s", user)
                == after
            )

        assert [row["detail"] for row in actions(backend, user)] == ["admin", "user"]

    def test_unknown_role(self, terminal: Terminal, backend: Backend) -> None:
        """There are two roles; a third is refused by a sentence that names them."""
        user = sign_up(backend.db)

        assert terminal.run("--role", "root", "--user-id", str(user), *WHY, "--yes") == 1

        assert "ROLE= is user or admin: nothing was done" in terminal.printed
        assert actions(backend, user) == []


@pytest.mark.own_database
class TestWelcome:
    """`WELCOME=n REASON=...`."""

    def test_next_account(self, terminal: Terminal, backend: Backend) -> None:
        """Who signs up from now on gets the new gift, still for a verified e-mail; who is here keeps theirs."""
        before = sign_up(backend.db)

        assert terminal.run("--welcome", "12", *WHY, "--yes") == 0

        assert terminal.cells("welcome gift") == ["10.000", "12.000"]
        assert "welcome: changed" in terminal.printed
        users = (before, sign_up(backend.db), sign_up(backend.db, verified=False))
        assert [available(backend, user) for user in users] == [10, 12, 0]

    @pytest.mark.parametrize("credits_", ["-1", "100000", "ten"])
    def test_bad_gift(self, terminal: Terminal, backend: Backend, credits_: str) -> None:
        """A gift is no debt, no fortune and no word."""
        assert terminal.run("--welcome", credits_, *WHY, "--yes") == 1

        assert "WELCOME= is" in terminal.printed
        assert backend.db.value("select welcome_credits from backend.account_settings") == 10
