"""
Sessions that do a call step by step, and the driver that lets them.

A session stops at the pauses of `pauses.py`, each of which waits for a lock that the driver holds. Whether a session is
on its way, paused or waiting for another one is asked of PostgreSQL, never guessed from the time it takes: a busy
machine changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Queue
from typing import NamedTuple

import psycopg

from tests.database import Connection, TestDatabase
from tests.interleavings.schedules import Call, World

POLL_SECONDS = 0.0005

BLOCKERS = """
select pid, pg_blocking_pids(pid) as blockers from unnest(%s::integer[]) pid
"""


class Event(NamedTuple):
    """A session has come to a pause, or, without a label, to the end of its call."""

    session: int
    label: str | None
    outcome: object = None


class Session:
    """A connection that does a call step by step; its thread tells `events` where it is."""

    def __init__(self, number: int, database: TestDatabase, events: Queue[Event]) -> None:
        self.number = number
        self.paused_at: str | None = None
        self.done = True
        self.alone = False
        self.steps = 0
        self.outcome: object = None
        self.connection = database.connect("holdfast_backend")
        # a call waits here for as long as the driver likes; in production it may not
        self.connection.execute("set statement_timeout = 0")
        self.connection.execute("set lock_timeout = 0")
        self.connection.add_notice_handler(
            lambda notice: events.put(Event(number, notice.message_primary))
        )
        self.pid = self.connection.info.backend_pid
        self._events = events
        self._thread = ThreadPoolExecutor(1)

    def start(self, call: Call, world: World) -> None:
        """Begin a call; it stops at its first pause."""
        self.paused_at, self.done, self.alone, self.steps = None, False, False, 0
        self._thread.submit(self._run, call, world)

    def _run(self, call: Call, world: World) -> None:
        query = (
            f"select interleavings.begin('{call.clock}', {self.number}), {call.sql} as outcome,"
            " interleavings.pause('commit')"
        )
        outcome: object = "lost"
        try:
            row = self.connection.execute(query.encode(), world.names).fetchone()
            outcome = row and row["outcome"]
        except psycopg.Error as error:
            outcome = f"error {error.sqlstate}"
        finally:
            self._events.put(Event(self.number, None, outcome))

    def close(self) -> None:
        """Wait for the call under way and close the connection."""
        self._thread.shutdown()
        self.connection.close()


class Driver:
    """Owns the locks that the pauses of its sessions wait for."""

    def __init__(self, connection: Connection, database: TestDatabase, sessions: int) -> None:
        self._connection = connection
        self._events: Queue[Event] = Queue()
        self._all = [Session(n, database, self._events) for n in range(sessions)]
        self.sessions: Sequence[Session] = ()

    def start(self, calls: Sequence[Call], world: World) -> None:
        """Start each call in a session of its own; it stops at its first pause."""
        self.sessions = self._all[: len(calls)]
        self._connection.execute(
            "select array(select pg_advisory_lock(n, 0)::text from unnest(%s::integer[]) n)",
            ([session.number for session in self.sessions],),
        )
        for session, call in zip(self.sessions, calls, strict=True):
            session.start(call, world)

    def ready(self) -> frozenset[int]:
        """Wait until every session is paused, waits for a paused one or is done; return the paused ones."""
        while running := [s for s in self.sessions if not s.done and s.paused_at is None]:
            try:
                self._take(self._events.get(timeout=POLL_SECONDS))
            except Empty:
                if self._all_stuck(running):
                    break
        return frozenset(session.number for session in self.sessions if session.paused_at)

    def _take(self, event: Event) -> None:
        session = self._all[event.session]
        if event.label is None:
            session.done, session.outcome = True, event.outcome
        elif not session.alone:
            session.paused_at = event.label

    def _all_stuck(self, running: Sequence[Session]) -> bool:
        """
        Say whether nobody in `running` can go on before a paused session does.

        Stuck is who waits only for paused sessions, or for others already known to be stuck. When all wait for each
        other nobody is: PostgreSQL is about to end that deadlock.
        """
        still = {session.pid for session in self.sessions if session.paused_at}
        left = {session.pid for session in running}
        while still and left:
            rows = self._connection.execute(BLOCKERS, (list(left),)).fetchall()
            stuck = {row["pid"] for row in rows if row["blockers"] and still >= {*row["blockers"]}}
            if not stuck:
                return False
            still |= stuck
            left -= stuck
        return not left

    def let_go(self, session: Session) -> None:
        """Let a session do one step, or all it has left when there is nobody else."""
        session.paused_at = None
        session.alone = all(each.done for each in self.sessions if each is not session)
        self._connection.execute(
            "select interleavings.let_go(%s, %s, %s)",
            (session.number, session.steps, session.alone),
        )
        session.steps += 1

    def let_all_go(self) -> None:
        """Let every session run to its end, also after a failure: the next schedule begins without them."""
        self._connection.execute("select pg_advisory_unlock_all()")
        while not all(session.done for session in self.sessions):
            self._take(self._events.get(timeout=30))

    def close(self) -> None:
        """End the sessions; whoever is paused runs to the end."""
        self.let_all_go()
        for session in self._all:
            session.close()
