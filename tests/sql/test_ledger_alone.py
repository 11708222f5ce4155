"""The ledger without the rest, as another product takes it, under Supabase's old default privileges."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from psycopg import sql

from local.database import MIGRATIONS, ROOT, create_database, drop_database, migrate
from local.postgres import PostgresServer
from tests.database import TestDatabase
from tests.factories import Ledger, new_user
from tests.raising import raises_sqlstate
from tools.examples import EXAMPLES, run

NUMBERS = ("0001", "0002", "0003", "0004", "0011")
READABLE = ("credit_balances", "credit_grants", "credit_reservations", "credit_ledger")
TABLES = (*READABLE, "credit_reversals")
API_ROLES = ("anon", "authenticated", "service_role")
WRITES = {
    "insert": "insert into {} default values",
    "update": "update {} set {} = default",
    "delete": "delete from {}",
    "truncate": "truncate {}",
}
RIGHTS = """
  select c.oid::regclass::text as name, c.relrowsecurity::text as guarded, c.relacl::text as rights
    from pg_class c
   where c.relkind in ('r', 'S') and (c.relnamespace = 'ledger'::regnamespace or c.relname like 'credit\\_%%')
  union all
  select p.oid::regprocedure::text, p.prosecdef::text, p.proacl::text
    from pg_proc p where p.pronamespace = 'ledger'::regnamespace
  union all
  select p.tablename || ' ' || p.policyname, p.cmd || p.roles::text || p.qual, null
    from pg_policies p where p.tablename like 'credit\\_%%'
  order by 1
"""


@pytest.fixture(name="alone", scope="module")
def _alone(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestDatabase]:
    """Return an exposing database of the ledger's migrations and no others."""
    folder = tmp_path_factory.mktemp("migrations")
    for number in NUMBERS:
        (path,) = MIGRATIONS.glob(f"{number}_*.sql")
        shutil.copy(path, folder)
    create_database(postgres, "ledger_alone", auto_expose=True)
    migrate(postgres.url("postgres", "ledger_alone"), folder)
    with TestDatabase(postgres, "ledger_alone") as alone:
        yield alone
    drop_database(postgres, "ledger_alone")


@pytest.fixture(name="users")
def _users(alone: TestDatabase) -> tuple[UUID, UUID]:
    """Return two users with a row in every table."""
    users = new_user(), new_user()
    ledger = Ledger(alone)
    for user in users:
        key = ledger.grant(user, 10)
        ledger.reserve(user, 4)
        ledger.reverse(key, 1)
    return users


def test_the_page_names_these_files() -> None:
    """docs/ledger.md says which migrations another product takes, and these are tested here."""
    page = (ROOT / "docs" / "ledger.md").read_text()

    assert "`sql/migrations/0001` to `0004` and `0011`" in page


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.sql")), ids=lambda path: path.stem)
def test_an_example_shows_the_same(alone: TestDatabase, example: Path) -> None:
    """The stories of the page need nothing else: they show what they show in the whole product."""
    shown = run(alone.server, alone.name, example)

    assert shown == example.with_suffix(".sql.out").read_text()


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("role", API_ROLES)
def test_nobody_writes(
    alone: TestDatabase, users: tuple[UUID, UUID], role: str, table: str, write: str
) -> None:
    """No role of the Data API writes a table of the ledger, not even a user their own row."""
    column = alone.value(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum = 2",
        f"public.{table}",
    )
    names = sql.Identifier("public", table), sql.Identifier(column)

    with alone.acting_as(role, users[0]) as connection, raises_sqlstate("42501"):
        connection.execute(sql.SQL(WRITES[write]).format(*names))


@pytest.mark.parametrize("table", READABLE)
def test_a_user_reads_their_own_rows(
    alone: TestDatabase, users: tuple[UUID, UUID], table: str
) -> None:
    """A signed-in user sees their own rows and no others."""
    query = sql.SQL("select distinct user_id from {}").format(sql.Identifier("public", table))

    with alone.acting_as("authenticated", users[0]) as connection:
        seen = connection.execute(query).fetchall()

    assert seen == [{"user_id": users[0]}]


@pytest.mark.parametrize(
    ("role", "table"),
    [
        *((role, table) for role in ("anon", "service_role") for table in TABLES),
        ("authenticated", "credit_reversals"),
    ],
)
def test_others_read_nothing(alone: TestDatabase, role: str, table: str) -> None:
    """Who is not signed in reads no table, and reversals are nobody's to read."""
    query = sql.SQL("select from {}").format(sql.Identifier("public", table))

    with alone.acting_as(role, new_user()) as connection, raises_sqlstate("42501"):
        connection.execute(query)


def test_the_api_calls_nothing(alone: TestDatabase, users: tuple[UUID, UUID]) -> None:
    """A user cannot call a function of the ledger."""
    with alone.acting_as("authenticated", users[0]) as connection, raises_sqlstate("42501"):
        connection.execute("select ledger.grant(%s, 'pack', 'mine', 100)", (users[0],))


def test_rights_are_those_of_the_whole_product(alone: TestDatabase, db: TestDatabase) -> None:
    """No right on the ledger is given or taken away by a migration that is not the ledger's."""
    assert alone.rows(RIGHTS) == db.rows(RIGHTS)


def test_books_are_proven(alone: TestDatabase, users: tuple[UUID, UUID]) -> None:
    """Audit and seals work as they are."""
    ledger = Ledger(alone)
    ledger.call("select sealed from ledger.seal()")

    assert ledger.call("select sealed from ledger.seal()") > 0
    assert ledger.calls.execute("select * from ledger.verify()").fetchall() == []
    assert [ledger.audit(user) for user in users] == [[], []]
