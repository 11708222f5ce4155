"""
Runs calls of the ledger at the same time, in every order of their inner statements the database allows.

Each call has a session of its own, which stops at the pauses of `pauses.py` until the driver lets it do one more step.
A schedule is a word over the sessions' letters, as in `AABBA`: who did each step. Whoever waits for a row lock of
another session cannot be chosen, so a schedule is what PostgreSQL really allows. All schedules are found depth first,
each played from the start with fresh users, keys and reservations.

Expected of each: the outcomes and the books are those of one of the serial orders, played on the same functions without
pauses; and the audit is empty after every commit.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import psycopg

from tests.clock import NOON
from tests.database import TestDatabase

NOW = NOON
SOON = NOW + timedelta(hours=1)
LATER = NOW + timedelta(days=1)

BLOCKED = """
select count(*) as count from unnest(%s::integer[]) pid
 where cardinality(pg_blocking_pids(pid)) > 0 and not pg_backend_pid() = any(pg_blocking_pids(pid))
"""

# Entries that carry a balance were written under its lock, so their order is part of the books; a full charge and a free
# reservation take no lock, and stand where they happened to fall.
BOOKS = """
with key_of as (select id, source_key from credit_grants where user_id = any(%(users)s))
select jsonb_build_object(
  'balances', (
    select jsonb_agg(jsonb_build_array(user_id, available, owed) order by user_id)
      from credit_balances where user_id = any(%(users)s)),
  'grants', (
    select jsonb_agg(jsonb_build_array(
             source_key, user_id, source, amount, remaining, expired, reversed, absorbed, expires_at)
             order by source_key)
      from credit_grants where user_id = any(%(users)s)),
  'reservations', (
    select jsonb_agg(jsonb_build_array(id, user_id, amount, charged, grant_amounts, (
             select array_agg(source_key order by n)
               from unnest(grant_ids) with ordinality as taken (grant_id, n) join key_of k on k.id = grant_id))
             order by id)
      from credit_reservations r where user_id = any(%(users)s)),
  'reversals', (
    select jsonb_agg(jsonb_build_array(reversal_key, source_key, reversed_total) order by reversal_key)
      from credit_reversals r join key_of k on k.id = r.grant_id),
  'entries', (
    select jsonb_agg(jsonb_build_array(
             user_id, type, available_delta, reserved_delta, owed_delta, available_after, owed_after,
             reservation_id, source_key, key) order by user_id, available_after is null, case when available_after is null then 0 else e.id end,
                      type, reservation_id)
      from credit_ledger e left join key_of k on k.id = e.grant_id where user_id = any(%(users)s))
)::text as books
"""


@dataclass(frozen=True)
class Call:
    """One call, as SQL over the names of a `World`, and the time its caller lives in."""

    sql: str
    clock: datetime = NOW


@dataclass(frozen=True)
class Scenario:
    """What happened before, and the calls that happen together."""

    name: str
    setup: tuple[str, ...]
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Step:
    """One step of a schedule: who did it, who could have, and what it was."""

    chosen: int
    ready: frozenset[int]
    label: str

    def __str__(self) -> str:
        return f"{string.ascii_uppercase[self.chosen]} {self.label}"


@dataclass
class Played:
    """A schedule as it was played, and what it led to."""

    steps: list[Step]
    outcomes: tuple[object, ...]
    books: str

    @property
    def result(self) -> tuple[tuple[object, ...], str]:
        """What must be the same as in some serial order."""
        return self.outcomes, self.books

    @property
    def schedule(self) -> str:
        """The schedule as a word."""
        return "".join(string.ascii_uppercase[step.chosen] for step in self.steps)


class UnexplainedError(AssertionError):
    """A schedule whose result no serial order explains, or that broke an invariant."""

    def __init__(self, scenario: Scenario, steps: Sequence[Step], why: str) -> None:
        schedule = "".join(string.ascii_uppercase[step.chosen] for step in steps)
        calls = [f"  {string.ascii_uppercase[n]}: {c.sql}" for n, c in enumerate(scenario.calls)]
        super().__init__(
            "\n".join(
                [f"{scenario.name}: {why}", *calls, *[f"    {step}" for step in steps]]
                + [f"play it again alone with SCHEDULE={schedule}"]
            )
        )


class World:
    """Fresh names for one schedule: users, reservations, keys; all contain `tag`."""

    _tags = itertools.count(0xA0000001)

    def __init__(self) -> None:
        self.tag = f"{next(World._tags):08x}"
        ids = ["user", "other", "r1", "r2", "new", "new2"]
        self.names: dict[str, object] = {
            name: UUID(f"{self.tag}-0000-4000-8000-{n:012x}") for n, name in enumerate(ids)
        }
        for name in ("g1", "g2", "g3", "key", "key2", "x0", "x1", "x2"):
            self.names[name] = f"k:{self.tag}:{name}"
        self.names |= {"soon": SOON, "users": [self.names["user"], self.names["other"]]}


class Session:
    """A connection that does a call step by step; its thread tells `events` where it is."""

    def __init__(self, number: int, database: TestDatabase, events: Queue[Any]) -> None:
        self.number = number
        self.paused_at: str | None = None
        self.done = True
        self.outcome: object = None
        self.connection = database.connect("holdfast_backend")
        self.connection.add_notice_handler(
            lambda notice: events.put((number, notice.message_primary, None))
        )
        self.pid = self.connection.info.backend_pid
        self._events = events
        self._thread = ThreadPoolExecutor(1)

    def start(self, call: Call, world: World) -> None:
        """Begin a call; it stops at its first pause."""
        self.paused_at, self.done, self.steps = None, False, 0
        self.connection.execute(
            "select set_config('interleavings.session', %s, false),"
            " set_config('interleavings.number', '0', false),"
            " set_config('interleavings.clock', %s, false)",
            (str(self.number), call.clock.isoformat()),
        )
        self._thread.submit(self._run, call, world)

    def _run(self, call: Call, world: World) -> None:
        query = f"select {call.sql} as outcome, interleavings.pause('commit')"
        try:
            row = self.connection.execute(query.encode(), world.names).fetchone()
            outcome = row and row["outcome"]
        except psycopg.Error as error:
            outcome = error.sqlstate
        self._events.put((self.number, None, outcome))

    def close(self) -> None:
        """Wait for the call under way and close the connection."""
        self._thread.shutdown()
        self.connection.close()


class Explorer:
    """The driver: owns the lock that every pause waits for."""

    def __init__(self, database: TestDatabase, sessions: int = 3) -> None:
        self._driver = database.connect("supabase_admin")
        self._events: Queue[tuple[int, str | None, object]] = Queue()
        self._sessions = [Session(n, database, self._events) for n in range(sessions)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._driver.close()  # its locks go with it, so whoever is paused runs to the end
        for session in self._sessions:
            session.close()

    def explore(self, scenario: Scenario, switches: int | None = None) -> int:
        """
        Play every schedule and return how many there are.

        `switches` bounds how often a session may be left that could have gone on. Raises `UnexplainedError`.
        """
        allowed = self.serial_results(scenario)
        count, prefixes = 0, [()]
        while prefixes:
            prefix = prefixes.pop()
            played = self.play(scenario, prefix)
            self.expect(scenario, played, allowed)
            count += 1
            prefixes += _alternatives(played.steps, len(prefix), switches)
        return count

    def serial_results(self, scenario: Scenario) -> list[tuple[tuple[object, ...], str]]:
        """Return the results of all serial orders."""
        results = []
        for order in itertools.permutations(range(len(scenario.calls))):
            world = self._prepare(scenario)
            outcomes: dict[int, object] = {}
            for number in order:
                call = scenario.calls[number]
                outcomes[number] = self._quietly(call.sql, world, call.clock)
            results.append((_comparable(outcomes), self._books(scenario, world, [])))
        return results

    @staticmethod
    def expect(
        scenario: Scenario, played: Played, allowed: Sequence[tuple[tuple[object, ...], str]]
    ) -> None:
        """Raise `UnexplainedError` unless the result is an allowed one."""
        if played.result not in allowed:
            serial = "\n  serial: ".join(f"{outcomes} {books}" for outcomes, books in allowed)
            found = f"{played.outcomes} {played.books}"
            raise UnexplainedError(
                scenario, played.steps, f"no serial order\n  found:  {found}\n  serial: {serial}"
            )

    def play(self, scenario: Scenario, choices: Sequence[int]) -> Played:
        """Play one schedule: `choices` first, then each session as far as it gets."""
        world = self._prepare(scenario)
        sessions = self._sessions[: len(scenario.calls)]
        self._driver.execute(
            "select pg_advisory_lock(n, 0) from generate_series(0, %s) n", (len(sessions) - 1,)
        )
        for session, call in zip(sessions, scenario.calls, strict=True):
            session.start(call, world)
        steps: list[Step] = []
        while ready := self._ready(sessions):
            last = steps[-1].chosen if steps else -1
            chosen = choices[len(steps)] if len(steps) < len(choices) else last
            if chosen not in ready:
                chosen = min(ready)
            label = str(sessions[chosen].paused_at)
            steps.append(Step(chosen, ready, label))
            self._let_go(sessions[chosen])
            if label == "commit":
                self._ready(sessions)
                self._audit(scenario, world, steps)
        self._driver.execute("select pg_advisory_unlock_all()")
        outcomes = {session.number: session.outcome for session in sessions}
        return Played(steps, _comparable(outcomes), self._books(scenario, world, steps))

    def _prepare(self, scenario: Scenario) -> World:
        world = World()
        for sql in scenario.setup:
            outcome = self._quietly(sql, world, NOW)
            assert outcome in {"granted", "reserved", "settled", "clawed_back"}, (sql, outcome)
        return world

    def _quietly(self, sql: str, world: World, clock: datetime) -> object:
        """Do a call without pauses."""
        self._driver.execute(
            "select set_config('interleavings.clock', %s, false)", (clock.isoformat(),)
        )
        try:
            row = self._driver.execute(f"select {sql} as v".encode(), world.names).fetchone()
        except psycopg.Error as error:
            return error.sqlstate
        return row and row["v"]

    def _ready(self, sessions: Sequence[Session]) -> frozenset[int]:
        """Wait until every session stops, waits for a lock or has ended; return who can go on."""
        while running := [s for s in sessions if not s.done and s.paused_at is None]:
            try:
                number, label, outcome = self._events.get(timeout=0.0005)
            except Empty:
                # when all wait for each other there is nobody to choose: PostgreSQL ends the deadlock
                paused = any(session.paused_at for session in sessions)
                if paused and self._blocked(running) == len(running):
                    break
                continue
            session = self._sessions[number]
            session.paused_at, session.outcome, session.done = label, outcome, label is None
        return frozenset(session.number for session in sessions if session.paused_at)

    def _blocked(self, running: Sequence[Session]) -> int:
        row = self._driver.execute(BLOCKED, ([session.pid for session in running],)).fetchone()
        assert row
        return int(row["count"])

    def _let_go(self, session: Session) -> None:
        session.paused_at = None
        session.steps += 1
        self._driver.execute(
            "select pg_advisory_lock(%s, %s), pg_advisory_unlock(%s, %s)",
            (session.number, session.steps, session.number, session.steps - 1),
        )

    def _audit(self, scenario: Scenario, world: World, steps: Sequence[Step]) -> None:
        violated = self._driver.execute(
            "select audit.* from unnest(%(users)s::uuid[]) u, ledger.audit(u) audit", world.names
        ).fetchall()
        if violated:
            raise UnexplainedError(scenario, steps, f"the audit finds {violated}")

    def _books(self, scenario: Scenario, world: World, steps: Sequence[Step]) -> str:
        self._audit(scenario, world, steps)
        # a sweep passes over accounts that are in use, and comes again: so it does here
        self._quietly("ledger.expire_due(100)", world, LATER)
        self._audit(scenario, world, steps)
        row = self._driver.execute(BOOKS, world.names).fetchone()
        assert row
        return str(row["books"]).replace(world.tag, "")


def _comparable(outcomes: dict[int, object]) -> tuple[object, ...]:
    # how many accounts a sweep found free is not an outcome anybody relies on
    found = (outcomes[number] for number in sorted(outcomes))
    return tuple("a count" if isinstance(each, int) else each for each in found)


def _alternatives(
    steps: Sequence[Step], known: int, switches: int | None
) -> Iterator[tuple[int, ...]]:
    """Yield the beginnings of the schedules that differ from this one first at a step after `known`."""
    chosen = tuple(step.chosen for step in steps)
    used = 0
    for depth, step in enumerate(steps):
        last = chosen[depth - 1] if depth else -1
        if depth >= known:
            for other in sorted(step.ready - {step.chosen}):
                if switches is None or used + (last in step.ready and other != last) <= switches:
                    yield (*chosen[:depth], other)
        used += last in step.ready and step.chosen != last
