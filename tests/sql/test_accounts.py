"""A new user's account: profile, role, welcome gift; and what people with power do to it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.database import TestDatabase
from tests.factories import Balance, Ledger, new_key, sign_up
from tests.racing import race
from tests.raising import raises_sqlstate

TEN = Balance(Decimal(10), Decimal(0), Decimal(0))
NOTHING = Balance(Decimal(0), Decimal(0), Decimal(0))


def profile(db: TestDatabase, user: UUID) -> dict[str, Any]:
    """Return a user's profile."""
    return db.row("select role, welcome from public.profiles where user_id = %s", user)


class TestWelcome:
    """Credits for a new user, once."""

    def test_verified(self, db: TestDatabase, ledger: Ledger) -> None:
        """A user who signs up with a verified address gets a profile and 10 credits."""
        user = sign_up(db)

        assert profile(db, user) == {"role": "user", "welcome": "paid"}
        assert ledger.balance(user) == TEN
        assert list(ledger.grants(user)) == [f"welcome:{user}"]

    def test_verified_later(self, db: TestDatabase, ledger: Ledger) -> None:
        """An unverified user waits; confirming the address pays, confirming again does not."""
        user = sign_up(db, verified=False)
        assert profile(db, user)["welcome"] == "waiting"
        assert ledger.balance(user) == NOTHING

        for _ in range(2):
            db.connection("supabase_auth_admin").execute(
                "update auth.users set email_confirmed_at = now() where id = %s", (user,)
            )

        assert ledger.balance(user) == TEN

    def test_no_address(self, db: TestDatabase, ledger: Ledger) -> None:
        """A user without an e-mail (OAuth, anonymous) is written and gets no gift."""
        user = sign_up(db, email=None)

        assert profile(db, user)["welcome"] == "waiting"
        assert ledger.balance(user) == NOTHING

    def test_leaving_and_coming_back(self, db: TestDatabase, ledger: Ledger) -> None:
        """The same address under a new user, in whatever case, is paid no second time."""
        name = uuid4().hex
        first = sign_up(db, f"{name}@example.com")
        db.connection("supabase_auth_admin").execute(
            "delete from auth.users where id = %s", (first,)
        )

        second = sign_up(db, f"{name.upper()}@Example.com ")

        assert profile(db, second)["welcome"] == "refused"
        assert ledger.balance(second) == NOTHING
        assert ledger.balance(first) == TEN  # money history outlives the user

    @pytest.mark.parametrize(
        ("first", "second", "welcome"),
        [
            ("{}@example.com", "{}+two@example.com", "refused"),
            ("{}.a@gmail.com", "{}a+x@GoogleMail.com", "refused"),
            ("{}.a@example.com", "{}a@example.com", "paid"),
            ("{}@example.com", "{}@example.org", "paid"),
            ("+{}@example.com", "+{}@example.org", "paid"),
        ],
    )
    def test_mailbox(
        self, db: TestDatabase, ledger: Ledger, first: str, second: str, welcome: str
    ) -> None:
        """The gift is for a mailbox: other spellings of its address get none, other mailboxes do."""
        name = uuid4().hex
        sign_up(db, first.format(name))

        user = sign_up(db, second.format(name))

        assert profile(db, user)["welcome"] == welcome
        assert ledger.balance(user) == (TEN if welcome == "paid" else NOTHING)

    def test_ensure(self, db: TestDatabase, ledger: Ledger) -> None:
        """A user who was there before Holdfast is paid when first seen, once."""
        user = uuid4()
        with db.connect("supabase_admin") as admin:
            admin.execute("set session_replication_role = replica")  # no trigger
            admin.execute(
                "insert into auth.users (id, email, email_confirmed_at) values (%s, %s, now())",
                (user, f"{user}@example.com"),
            )

        outcomes = [ledger.call("select backend.ensure_account(%s)", user) for _ in range(2)]

        assert outcomes == ["paid", "paid"]
        assert ledger.balance(user) == TEN

    def test_unknown(self, ledger: Ledger) -> None:
        """Nobody's account is opened for an id that Auth does not know."""
        assert ledger.call("select backend.ensure_account(%s)", uuid4()) == "unknown_user"

    def test_twice_at_once(self, db: TestDatabase, ledger: Ledger) -> None:
        """Ten requests that open one account at the same moment pay one gift."""
        user = sign_up(db, verified=False)
        with db.connect("supabase_admin") as admin:
            admin.execute("set session_replication_role = replica")
            admin.execute("update auth.users set email_confirmed_at = now() where id = %s", (user,))

        outcomes = race(db, 10, "select backend.ensure_account(%s)", lambda _: (user,))

        assert set(outcomes) == {"paid"}
        assert ledger.balance(user) == TEN

    @pytest.mark.own_database
    def test_broken_gift(self, db: TestDatabase, ledger: Ledger, superuser: Any) -> None:
        """Whatever fails in opening the account, the sign-up goes through, and a later look repairs it."""
        superuser.execute("alter table public.credit_grants add constraint broken check (false)")
        user = sign_up(db)
        assert db.rows("select from public.profiles where user_id = %s", user) == []
        superuser.execute("alter table public.credit_grants drop constraint broken")

        assert ledger.call("select backend.ensure_account(%s)", user) == "paid"

    @pytest.mark.own_database
    def test_locked_table(self, db: TestDatabase) -> None:
        """A migration that holds a table delays a sign-up by a second, and does not stop it."""
        with db.connect("supabase_admin") as migration, migration.transaction():
            migration.execute("lock table public.credit_grants")

            user = sign_up(db)

        assert db.rows("select id from auth.users where id = %s", user)

    @pytest.mark.own_database
    def test_configured(self, db: TestDatabase, ledger: Ledger) -> None:
        """The gift's size, and whether it needs a verified address, are an operator's to set."""
        db.value("select backend.set_welcome('operator:ann', 'k1', 2.5, false, 'a smaller gift')")

        assert ledger.balance(sign_up(db, verified=False)).available == Decimal("2.5")

        db.value("select backend.set_welcome('operator:ann', 'k2', 0, true, 'no gift any more')")

        assert ledger.balance(sign_up(db)) == NOTHING


class TestRoles:
    """Who is an admin."""

    def test_has_role(self, db: TestDatabase, ledger: Ledger) -> None:
        """Everybody is a user; an operator makes an admin, and the reason is kept."""
        user = sign_up(db)
        question = "select backend.has_role(%s, 'admin')"
        assert ledger.call(question, user) is False

        made = [
            db.value(
                "select backend.set_role('operator:ann', %s, %s, 'admin', 'runs support')",
                f"role:{user}",
                user,
            )
            for _ in range(2)
        ]

        assert made == ["changed", "duplicate"]
        assert ledger.call(question, user) is True

    def test_unknown(self, db: TestDatabase) -> None:
        """Nobody is made an admin who does not exist."""
        outcome = db.value(
            "select backend.set_role('operator:ann', %s, %s, 'admin', 'typo')", new_key(), uuid4()
        )

        assert outcome == "unknown_user"

    def test_own_profile_only(self, db: TestDatabase) -> None:
        """A user reads their own role, nobody else's, and writes none."""
        user, other = sign_up(db), sign_up(db)

        with db.acting_as("authenticated", user) as session:
            seen = session.execute("select user_id from public.profiles").fetchall()
            assert seen == [{"user_id": user}]
            with pytest.raises(psycopg.errors.InsufficientPrivilege), session.transaction():
                session.execute("update public.profiles set role = 'admin'")
        assert profile(db, other)["role"] == "user"


class TestAdjustments:
    """Credits given and taken by hand, with a reason and an actor."""

    ADJUST = "select backend.adjust_credits_as_admin(%s, %s, %s, %s::numeric, %s)"

    @pytest.fixture(name="admin")
    def _admin(self, db: TestDatabase) -> UUID:
        admin = sign_up(db)
        db.value("select backend.set_role('op:a', %s, %s, 'admin', 'test')", new_key(), admin)
        return admin

    def test_give_and_take(self, db: TestDatabase, ledger: Ledger, admin: UUID) -> None:
        """An admin gives 5 and takes 12; both are in the ledger, with actor and reason on record."""
        user = sign_up(db)

        assert ledger.call(self.ADJUST, admin, "a", user, 5, "sorry for the outage") == "adjusted"
        assert ledger.call(self.ADJUST, admin, "b", user, -12, "bought twice") == "adjusted"

        assert ledger.balance(user).available == Decimal(3)
        assert ledger.kinds(user) == ["grant", "grant", "reserve", "charge"]
        actions = db.rows(
            "select actor, amount, reason from backend.admin_actions"
            " where user_id = %s and action = 'adjust' order by id",
            user,
        )
        assert actions == [
            {"actor": f"user:{admin}", "amount": 5, "reason": "sorry for the outage"},
            {"actor": f"user:{admin}", "amount": -12, "reason": "bought twice"},
        ]
        assert ledger.audit(user) == []

    def test_again(self, db: TestDatabase, ledger: Ledger, admin: UUID) -> None:
        """The same key does it once; with other terms it is a conflict that changes nothing."""
        user = sign_up(db)

        outcomes = [
            ledger.call(self.ADJUST, admin, "k", user, amount, "a reason") for amount in (5, 5, 6)
        ]

        assert outcomes == ["adjusted", "duplicate", "conflict"]
        assert ledger.balance(user).available == Decimal(15)

    def test_too_much(self, db: TestDatabase, ledger: Ledger, admin: UUID) -> None:
        """More than is available is not taken, and the key is free to be used again."""
        user = sign_up(db)
        assert ledger.call(self.ADJUST, admin, "k", user, -11, "too much") == "insufficient_credits"

        assert ledger.call(self.ADJUST, admin, "k", user, -10, "all of it") == "adjusted"

    def test_no_admin(self, db: TestDatabase, ledger: Ledger) -> None:
        """A user gives nothing, to themselves or others."""
        user = sign_up(db)

        assert ledger.call(self.ADJUST, user, "k", user, 5, "please") == "forbidden"
        assert ledger.balance(user) == TEN

    def test_nobody(self, ledger: Ledger, admin: UUID) -> None:
        """Credits are not given to an id that is nobody's."""
        assert ledger.call(self.ADJUST, admin, "k", uuid4(), 5, "a typo") == "unknown_user"

    @pytest.mark.parametrize("amount", ["0", "NaN", "0.0001", "1e20"])
    def test_no_amount(self, db: TestDatabase, ledger: Ledger, admin: UUID, amount: str) -> None:
        """What is no amount of credits is refused."""
        with raises_sqlstate("HF001"):
            ledger.call(self.ADJUST, admin, "k", sign_up(db), amount, "a reason")

    def test_no_reason(self, db: TestDatabase, ledger: Ledger, admin: UUID) -> None:
        """Without a reason nothing is adjusted."""
        user = sign_up(db)

        with pytest.raises(psycopg.errors.CheckViolation):
            ledger.call(self.ADJUST, admin, "k", user, 5, "  ")

        assert ledger.balance(user) == TEN
