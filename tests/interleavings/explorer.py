"""
Runs calls of the ledger at the same time, in every order of their inner statements the database allows.

Whoever waits for a lock of another session cannot be chosen, so a schedule is what PostgreSQL really allows. All
schedules are found depth first, each played from the start with fresh users, keys and reservations.

Expected of each: the outcomes and the books are those of one of the serial orders, played on the same functions without
pauses; and the audit is empty after every commit. When a seal is among the calls, every entry is sealed in the end.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Self

import psycopg

from tests.database import TestDatabase
from tests.interleavings.books import BOOKS, CLEAN_UP, CLEAN_UP_EVERY, difference
from tests.interleavings.schedules import (
    LATER,
    NOW,
    Played,
    Result,
    Scenario,
    Step,
    UnexplainedError,
    World,
    alternatives,
    choices,
    word,
)
from tests.interleavings.sessions import Driver


class Explorer:
    """Plays the schedules of scenarios in one database, whose functions have pauses."""

    def __init__(self, database: TestDatabase, sessions: int = 3) -> None:
        self._connection = database.connect("supabase_admin")
        self._connection.execute("set plan_cache_mode = force_generic_plan")
        self._driver = Driver(self._connection, database, sessions)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.close()
        self._connection.close()

    def explore(self, scenario: Scenario, switches: int | None = None) -> int:
        """
        Play every schedule and return how many there are.

        `switches` bounds how often a session may be left that could have gone on. Raises `UnexplainedError`.
        """
        allowed = self.serial_results(scenario)
        count = 0
        prefixes: list[tuple[int, ...]] = [()]
        while prefixes:
            prefix = prefixes.pop()
            played = self.play(scenario, prefix)
            _expect(scenario, played, allowed)
            count += 1
            prefixes += alternatives(played.steps, len(prefix), switches)
        return count

    def replay(self, scenario: Scenario, schedule: str) -> Played:
        """Play the one schedule a failure named, with the same expectations; it must still be possible."""
        allowed = self.serial_results(scenario)
        played = self.play(scenario, choices(schedule))
        _expect(scenario, played, allowed)
        assert word(played.steps).startswith(schedule), f"possible is only {word(played.steps)}"
        return played

    def serial_results(self, scenario: Scenario) -> list[Result]:
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

    def play(self, scenario: Scenario, first: Sequence[int]) -> Played:
        """Play one schedule: the choices `first`, then each session as far as it gets."""
        world = self._prepare(scenario)
        driver = self._driver
        driver.start(scenario.calls, world)
        steps: list[Step] = []
        try:
            while ready := driver.ready():
                chosen = _choose(ready, steps, first)
                session = driver.sessions[chosen]
                steps.append(Step(chosen, ready, str(session.paused_at)))
                driver.let_go(session)
                driver.ready()
                if session.done:
                    self._audit(scenario, world, steps)
        finally:
            driver.let_all_go()
        outcomes = {session.number: session.outcome for session in driver.sessions}
        return Played(steps, (_comparable(outcomes), self._books(scenario, world, steps)))

    def _prepare(self, scenario: Scenario) -> World:
        world = World()
        if world.number % CLEAN_UP_EVERY == 0:
            self._connection.execute(CLEAN_UP)
        outcomes = self._quietly(f"array[{', '.join(scenario.setup)}]", world, NOW)
        assert isinstance(outcomes, list), outcomes
        assert {*outcomes} <= {"granted", "reserved", "settled", "clawed_back", "sealed"}, outcomes
        return world

    def _quietly(self, sql: str, world: World, clock: datetime) -> object:
        """Do a call without pauses."""
        query = f"select interleavings.begin('{clock}'), {sql} as outcome"
        try:
            row = self._connection.execute(query.encode(), world.names).fetchone()
        except psycopg.Error as error:
            return f"error {error.sqlstate}"
        return row and row["outcome"]

    def _audit(self, scenario: Scenario, world: World, steps: Sequence[Step]) -> None:
        violated = self._connection.execute(
            "select audit.* from unnest(%(users)s::uuid[]) u, ledger.audit(u) audit",
            {"users": world.users(scenario)},
        ).fetchall()
        if violated:
            raise UnexplainedError(scenario, steps, f"the audit finds {violated}")

    def _seal(self, scenario: Scenario, steps: Sequence[Step]) -> None:
        """Seal what is left, in two calls, as the sweep does; then no entry may be outside of a seal."""
        for _ in range(2):
            self._connection.execute("select from ledger.seal()")
        found = self._connection.execute(
            "select entry_id, problem from ledger.verify() union all"
            " select id, 'not sealed' from credit_ledger"
            "  where id > (select max(last_entry_id) from ledger.seals)"
        ).fetchall()
        if found:
            raise UnexplainedError(scenario, steps, f"the seals miss {found}")

    def _books(self, scenario: Scenario, world: World, steps: Sequence[Step]) -> str:
        # a sweep passes over accounts that are in use, and comes again: so it does here
        self._quietly("ledger.expire_due(100)", world, LATER)
        self._audit(scenario, world, steps)
        if scenario.seals:
            self._seal(scenario, steps)
        row = self._connection.execute(BOOKS, world.names).fetchone()
        assert row
        return str(row["books"]).replace(world.tag, "")


def _choose(ready: frozenset[int], steps: Sequence[Step], first: Sequence[int]) -> int:
    last = steps[-1].chosen if steps else -1
    chosen = first[len(steps)] if len(steps) < len(first) else last
    return chosen if chosen in ready else min(ready)


def _expect(scenario: Scenario, played: Played, allowed: Sequence[Result]) -> None:
    """Raise `UnexplainedError` unless the result is an allowed one."""
    outcomes, books = played.result
    errors = [each for each in outcomes if re.match("error (?!HF)", str(each))]
    if errors or played.result not in allowed:
        serial = [f"{result[0]}: {difference(result[1], books)}" for result in allowed]
        why = "\n  ".join([f"outcomes {outcomes}, no serial order gives", *serial])
        raise UnexplainedError(scenario, played.steps, why)


def _comparable(outcomes: Mapping[int, object]) -> tuple[object, ...]:
    # how many accounts a sweep found free is not an outcome anybody relies on
    found = (outcomes[number] for number in sorted(outcomes))
    return tuple("a count" if isinstance(each, int) else each for each in found)
