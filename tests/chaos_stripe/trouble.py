"""What goes wrong outside: Stripe does not answer, connections break, the database is away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import LiteralString

from psycopg import sql

from local.standins.stripe import Stripe
from tests.database import TestDatabase

STRIPE_FAILS = "calls of Stripe that failed"
LINE_BREAKS = "broken connections"
DATABASE_AWAY = "outages of the database"
OBJECT_CHANGES = "changes while it was read"

_AT_MOST = {DATABASE_AWAY: 5, LINE_BREAKS: 15, STRIPE_FAILS: 20, OBJECT_CHANGES: 15}
"""A run with more of them would do nothing else."""
_API = ".* /v1/.*"


class Trouble:
    """Draws what strikes, and lets it happen."""

    def __init__(
        self,
        random: Random,
        totals: Counter[str],
        database: TestDatabase,
        note: Callable[[str], None],
    ) -> None:
        self.back_at: int | None = None
        """When the database is back (unix seconds), if it is away."""
        self._random = random
        self._totals = totals
        self._database = database
        self._note = note
        self._intensity = random.choice((0.5, 1.0, 2.0))
        self._left = Counter(_AT_MOST)

    def end(self) -> None:
        """Let nothing strike any more."""
        self._left.clear()

    def allow(self, kind: str, times: int) -> None:
        """Let one kind strike so many times more."""
        self._left[kind] = times

    def strikes(self, kind: str, chance: float) -> bool:
        """Say whether it happens now."""
        if not self._left[kind] or self._random.random() > chance * self._intensity:
            return False
        self._left[kind] -= 1
        self._totals[kind] += 1
        return True

    def perhaps_break_stripe(self, stripe: Stripe) -> None:
        """Let Stripe refuse or lose its next calls, fewer or more of them than the SDK tries."""
        if not self.strikes(STRIPE_FAILS, 0.06):
            return
        times = self._random.choice((1, 1, 2, 3))
        kind = self._random.choice(("500", "429", "lost", "lost", "down"))
        self._note(f"*** Stripe: {kind}, {times} calls")
        if kind == "lost":
            stripe.lose_next(times, _API)
        elif kind == "down":
            stripe.faults.add("down", _API, times=times)
        else:
            stripe.fail_next(times, int(kind), _API)

    def line_fault(self) -> str:
        """Say whether the connection breaks at a statement: before it or after it."""
        if not self.strikes(LINE_BREAKS, 0.01):
            return ""
        when = self._random.choice(("before", "after"))
        self._note(f"*** the connection breaks {when} the statement")
        return when

    def take_database_away(self, now: int, *seconds: int) -> None:
        """Let nobody connect any more for one of these times, and end who is connected."""
        duration = self._random.choice(seconds)
        if self.back_at is not None:
            return
        self.back_at = now + duration
        self._note(f"*** the database is away for {duration} s")
        self._limit(0)
        self._database.connection("supabase_admin").execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and usename = 'holdfast_backend'"
        )

    def bring_database_back(self) -> None:
        """Let everybody in again."""
        if self.back_at is not None:
            self.back_at = None
            self._note("the database is back")
            self._limit(-1)

    def _limit(self, connections: int) -> None:
        statement: LiteralString = "alter database {} connection limit {}"
        self._database.connection("supabase_admin").execute(
            sql.SQL(statement).format(sql.Identifier(self._database.name), connections)
        )
