from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.database import Connection, TestDatabase
from tests.sql.catalog import CHECKS, Check

each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)


@pytest.fixture(name="exposing_database", scope="module")
def _exposing_database(request: pytest.FixtureRequest) -> Iterator[TestDatabase]:
    """Return a database migrated under the platform's default privileges of before October 2026."""
    with request.getfixturevalue("templates").copy(auto_expose=True) as database:
        yield database


@each_check
def test_no_offender(db: TestDatabase, check: Check) -> None:
    """The migrated catalog keeps the rule."""
    assert _offenders(db.connection("supabase_admin"), check) == []


@each_check
def test_no_offender_on_an_exposing_platform(exposing_database: TestDatabase, check: Check) -> None:
    """The rule holds too where every new object is open to the API roles by default."""
    assert _offenders(exposing_database.connection("supabase_admin"), check) == []


@each_check
def test_offender_is_found(db: TestDatabase, check: Check) -> None:
    """The check is awake: what breaks the rule is found."""
    admin = db.connection("supabase_admin")
    with admin.transaction(force_rollback=True):
        admin.execute(check.violation)

        assert _offenders(admin, check)


def test_publication(db: TestDatabase) -> None:
    """Realtime subscribers hear of generations, balances and alerts, and of nothing else."""
    published = db.rows(
        "select tablename from pg_publication_tables where pubname = 'supabase_realtime' order by 1"
    )

    assert [row["tablename"] for row in published] == ["alerts", "credit_balances", "generations"]


def test_buckets(db: TestDatabase) -> None:
    """There are two buckets, both private, with limits on size and type, and no scriptable type."""
    buckets = {
        row["id"]: row
        for row in db.connection("supabase_admin").execute("select * from storage.buckets")
    }

    assert buckets.keys() == {"outputs", "uploads"}
    for bucket in buckets.values():
        assert bucket["public"] is False
        assert bucket["file_size_limit"] > 0
        assert bucket["allowed_mime_types"]
        assert not {"text/html", "image/svg+xml", "*/*"} & set(bucket["allowed_mime_types"])


def test_login_role(db: TestDatabase) -> None:
    """The functions' role may log in and nothing more, belongs to nobody and ends by itself."""
    role = db.row("select * from pg_roles where rolname = 'holdfast_backend'")

    rights = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls")
    assert not any(role[right] for right in rights)
    assert role["rolcanlogin"]
    assert {setting.split("=")[0] for setting in role["rolconfig"]} == {
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
    }
    memberships = db.rows("select from pg_auth_members where member = %s", role["oid"])
    assert memberships == []


def test_migrations_are_not_exposed(
    make_database: Callable[..., TestDatabase],
) -> None:
    """The migration tool's own table is where the Data API does not look."""
    tables = make_database(auto_expose=True).rows(
        "select table_schema, table_name from information_schema.tables"
        " where table_name = 'applied_migrations'"
    )

    assert tables == [{"table_schema": "dbmate", "table_name": "applied_migrations"}]


def _offenders(admin: Connection, check: Check) -> list[str]:
    # no parameters: psycopg then leaves the percent signs of the catalog queries alone
    return [row["offender"] for row in admin.execute(check.finds).fetchall()]
