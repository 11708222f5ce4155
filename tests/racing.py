"""Many connections doing the same thing at the same moment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, LiteralString

import psycopg

from tests.database import Connection, TestDatabase

Step = Callable[[Connection], Any]


def race(
    db: TestDatabase, runners: int, query: LiteralString, params: Callable[[int], Sequence[object]]
) -> list[Any]:
    """Run one statement `runners` times at once as the backend's role; return the first columns."""

    def runner(number: int) -> Step:
        return lambda connection: first_value(connection, query, params(number))

    return race_steps(db, [runner(number) for number in range(runners)])


def race_steps(db: TestDatabase, steps: Sequence[Step]) -> list[Any]:
    """Run each step on a connection of its own, all released by one barrier; return their results."""
    barrier = Barrier(len(steps), timeout=30)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(steps)) as pool:
        ready = [stack.enter_context(db.connect("holdfast_backend")) for _ in steps]

        def run(step: Step, connection: Connection) -> Any:
            barrier.wait()
            return step(connection)

        return list(pool.map(run, steps, ready))


def outcome_or_sqlstate(step: Step) -> Step:
    """Wrap a step so that a database error becomes its SQLSTATE."""

    def run(connection: Connection) -> Any:
        try:
            return step(connection)
        except psycopg.Error as error:
            return error.sqlstate

    return run


def first_value(connection: Connection, query: LiteralString, params: Sequence[object]) -> Any:
    """Run a statement and return its first column."""
    row = connection.execute(query, params).fetchone()
    assert row
    return next(iter(row.values()))


def overlap(db: TestDatabase, first: Step, second: Step) -> tuple[Any, Any]:
    """
    Run `second` while the transaction of `first` is open, and let it end only then.

    `first` commits once `second` waits for it or is through: the two overlap wherever they could do harm.
    """
    with (
        db.connect("holdfast_backend") as one,
        db.connect("holdfast_backend") as two,
        ThreadPoolExecutor(1) as pool,
    ):
        with one.transaction():
            early = first(one)
            later = pool.submit(second, two)
            deadline = time.monotonic() + 10
            while not later.done() and not _waits(db, two):
                assert time.monotonic() < deadline, "neither through nor waiting"
        return early, later.result(timeout=10)


def _waits(db: TestDatabase, connection: Connection) -> bool:
    pid = connection.info.backend_pid
    return bool(db.value("select cardinality(pg_blocking_pids(%s)) > 0", pid))
