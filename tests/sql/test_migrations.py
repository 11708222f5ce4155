"""The same files, by both ways they are applied: dbmate here, `supabase db push` on the platform."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local.database import MIGRATIONS, create_database, drop_database, migrate
from local.postgres import PostgresServer
from tests.database import TestDatabase

FILES = sorted(MIGRATIONS.glob("*.sql"))

# everything pg_dump would write, by name, without needing pg_dump
_SHAPE = """
  select 'column' as what, format('%I.%I.%I', n.nspname, c.relname, a.attname) as name,
         format('%s %s %s', format_type(a.atttypid, a.atttypmod), a.attnotnull,
                pg_get_expr(d.adbin, d.adrelid)) as definition, c.relacl::text as rights
    from pg_attribute a join pg_class c on c.oid = a.attrelid
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
   where n.nspname in ('public', 'ledger', 'backend') and a.attnum > 0 and c.relkind in ('r', 'S')
  union all
  select 'function', p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.proacl::text
    from pg_proc p where p.pronamespace in ('ledger'::regnamespace, 'backend'::regnamespace)
  union all
  select 'index', i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), null
    from pg_index i join pg_class c on c.oid = i.indrelid
   where c.relnamespace in ('public'::regnamespace, 'backend'::regnamespace)
  union all
  select 'constraint', k.conrelid::regclass || ' ' || k.conname, pg_get_constraintdef(k.oid), null
    from pg_constraint k where k.connamespace in ('public'::regnamespace, 'backend'::regnamespace)
  union all
  select 'trigger', t.tgname, pg_get_triggerdef(t.oid), null
    from pg_trigger t join pg_class c on c.oid = t.tgrelid
   where not t.tgisinternal and c.relnamespace = 'public'::regnamespace
  union all
  select 'policy', p.schemaname || '.' || p.tablename || ' ' || p.policyname,
         format('%s %s %s %s', p.cmd, p.roles, p.qual, p.with_check), null
    from pg_policies p
  union all
  select 'bucket', b.id, to_jsonb(b)::text, null
    from (select id, public, file_size_limit, allowed_mime_types from storage.buckets) b
  order by 1, 2
"""


def _shape(database: TestDatabase) -> list[dict[str, Any]]:
    return database.connection("supabase_admin").execute(_SHAPE).fetchall()


def test_names() -> None:
    """Files are numbered without gaps, in four digits, in words both tools accept."""
    numbers = [int(path.name[:4]) for path in FILES]

    assert all(re.fullmatch(r"\d{4}_[a-z0-9_]+\.sql", path.name) for path in FILES)
    assert numbers == list(range(1, len(FILES) + 1))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_markers(path: Path) -> None:
    """Each file is one dbmate migration, and dbmate's marks are mere comments to everybody else."""
    text = path.read_text()

    assert text.startswith("-- migrate:up\n")
    assert text.endswith("\n-- migrate:down\n")
    assert text.count("-- migrate:") == 2


def test_as_plain_sql(postgres: PostgresServer, db: TestDatabase) -> None:
    """Each file run whole, in order, as `postgres` and no superuser, gives the schema dbmate gives."""
    name = "pushed"
    create_database(postgres, name)
    with TestDatabase(postgres, name) as pushed:
        owner = pushed.connection("postgres")
        assert pushed.value("select rolsuper from pg_roles where rolname = current_user") is False
        for path in FILES:
            with owner.transaction():
                owner.execute(path.read_bytes())

        assert _shape(pushed) == _shape(db)
    drop_database(postgres, name)


def test_on_an_exposing_platform(
    make_database: Callable[..., TestDatabase], db: TestDatabase
) -> None:
    """Rights and all, the schema does not depend on the platform's default privileges."""
    exposing = make_database(auto_expose=True)

    assert _shape(exposing) == _shape(db)


def test_without_realtime(postgres: PostgresServer, db: TestDatabase) -> None:
    """Where nobody listens for live updates there is no publication, and the migrations do without it."""
    name = "unheard"
    create_database(postgres, name)
    with TestDatabase(postgres, name) as unheard:
        unheard.connection("postgres").execute("drop publication supabase_realtime")

        migrate(unheard.url("postgres"))

        assert unheard.rows("select from pg_publication") == []
        assert _shape(unheard) == _shape(db)
    drop_database(postgres, name)


def test_again(make_database: Callable[..., TestDatabase]) -> None:
    """Migrating a migrated database does nothing."""
    database = make_database()
    before = _shape(database)

    migrate(database.url("postgres"))

    assert _shape(database) == before


def test_second_database_of_a_cluster(make_database: Callable[..., TestDatabase]) -> None:
    """The login role is made once a cluster; a second database finds it there."""
    databases = [make_database(), make_database()]

    for database in databases:
        assert database.connection("holdfast_backend").execute("select 1").fetchone()


def test_failing_migration_leaves_nothing(
    postgres: PostgresServer, make_database: Callable[..., TestDatabase], tmp_path: Path
) -> None:
    """A migration that fails half way is rolled back whole and named."""
    (tmp_path / "0099_broken.sql").write_text(
        "-- migrate:up\ncreate table public.half (id int);\nselect 1 / 0;\n\n-- migrate:down\n"
    )
    database = make_database()

    with pytest.raises(RuntimeError, match="division by zero"):
        migrate(database.url("postgres"), tmp_path)

    with pytest.raises(psycopg.errors.UndefinedTable):
        database.rows("select from public.half")
