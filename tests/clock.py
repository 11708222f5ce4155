"""The ledger's time, moved by hand. Only a superuser can do this, and only tests do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.database import TestDatabase

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
"""Where a moved clock starts: far from today, so that nothing agrees with the wall clock by chance."""


class Clock:
    """Time in one database stands still until a test moves it."""

    def __init__(self, database: TestDatabase) -> None:
        self._admin = database.connection("supabase_admin")

    @classmethod
    def install(cls, database: TestDatabase) -> Clock:
        """Replace `ledger.clock()`; owner, rights and security stay those of the migration."""
        clock = cls(database)
        clock._admin.execute("""
            create schema clock authorization postgres;
            create table clock.reading (at timestamptz not null);
            alter table clock.reading owner to postgres;
            create or replace function ledger.clock() returns timestamptz
              language sql stable security definer set search_path = ''
            as $$ select at from clock.reading $$;
        """)
        clock._admin.execute("insert into clock.reading values (%s)", (NOON,))
        return clock

    def now(self) -> datetime:
        """Read the clock."""
        row = self._admin.execute("select at from clock.reading").fetchone()
        assert row
        at: datetime = row["at"]
        return at

    def set(self, at: datetime) -> None:
        """Put the clock to `at`."""
        self._admin.execute("update clock.reading set at = %s", (at,))

    def advance(self, **duration: float) -> datetime:
        """Move the clock on by a `timedelta`'s arguments and return the new time."""
        self.set(self.now() + timedelta(**duration))
        return self.now()
