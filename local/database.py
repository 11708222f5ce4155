"""
Databases that look like a Supabase project's, on a local server: bootstrapped, migrated, copied.

Migrations run as the role `postgres` (no superuser) through dbmate, from the same files `supabase db push` takes.
"""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import psycopg
from psycopg import sql

from local.postgres import SUPERUSER, PostgresServer

ROOT = Path(__file__).resolve().parent.parent
MIGRATIONS = ROOT / "sql" / "migrations"
MIGRATIONS_TABLE = "dbmate.applied_migrations"
"""Outside `public`, where the Data API would show it."""

_SQL = Path(__file__).resolve().parent / "supabase_sql"


def create_database(server: PostgresServer, name: str, *, auto_expose: bool = False) -> None:
    """
    Create the database `name` as Supabase does, roles included where the cluster has none yet.

    `auto_expose` chooses the platform's default privileges of before October 2026.
    """
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        if not admin.execute("select 1 from pg_roles where rolname = 'authenticator'").fetchone():
            admin.execute(_read("roles.sql"))
        if name != "postgres":
            admin.execute(
                sql.SQL("create database {} template template0").format(sql.Identifier(name))
            )
    with psycopg.connect(server.url(SUPERUSER, name), autocommit=True) as admin:
        admin.execute(_read("database.sql"))
        if auto_expose:
            admin.execute(_read("expose.sql"))


def copy_database(server: PostgresServer, source: str, name: str) -> None:
    """Create the database `name` as a copy of `source`, which nobody may be connected to."""
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(
            sql.SQL("create database {} template {}").format(
                sql.Identifier(name), sql.Identifier(source)
            )
        )


def drop_database(server: PostgresServer, name: str) -> None:
    """Drop the database `name` and whatever is connected to it."""
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        )


def migrate(url: str, migrations: Path = MIGRATIONS) -> None:
    """Apply the migrations that the database at `url` lacks; raises `RuntimeError` with dbmate's words."""
    done = subprocess.run(
        [
            Path(sysconfig.get_path("scripts")) / "dbmate",
            f"--url={url}",
            f"--migrations-dir={migrations}",
            f"--migrations-table={MIGRATIONS_TABLE}",
            "--no-dump-schema",
            "migrate",
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"migrations failed:\n{done.stdout}{done.stderr}")


def _read(name: str) -> str:
    return (_SQL / name).read_text()
