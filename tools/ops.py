"""
What is stuck, why and since when; and what an operator can do about it.

    DATABASE_URL=postgresql://... python -m tools.ops [--retry ID | --refund ID] [--yes]

A command says what it will do and asks before it does it. Run it as the owner of the database: the functions' role may
not. Exit status 1 when nothing was done.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row
from rich.console import Console
from rich.table import Table

IDLE_SECONDS = 300
LIMIT = 200

_RETRY = (
    "The next sweep takes it, within a minute, however often it failed: it asks BabySea, or queues"
    " the storing of its outputs again. Nothing is charged or refunded by this command."
)
_REFUND = {
    "storing": "The next sweep ends it with what is stored by then: that is charged, the rest is refunded."
    " Files that are missing are lost.",
    "asking": "The next sweep asks BabySea to cancel it. When that is confirmed the credits are refunded;"
    " if BabySea has finished it meanwhile, it is delivered and charged.",
    "now": "It fails now and its credits are refunded. BabySea may still have billed us for it.",
}

Database = psycopg.Connection[DictRow]


def main(arguments: list[str] | None = None, console: Console | None = None) -> int:
    """Show what is stuck, or do one thing about one generation; return the exit status."""
    parser = argparse.ArgumentParser(prog="make ops", description=__doc__)
    command = parser.add_mutually_exclusive_group()
    command.add_argument("--retry", metavar="ID", type=UUID)
    command.add_argument("--refund", metavar="ID", type=UUID)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(arguments)
    url = os.environ.get("DATABASE_URL")
    if not url:
        parser.error("set DATABASE_URL to the database of the product")
    console = console or Console(highlight=False)
    with psycopg.connect(
        url, autocommit=True, prepare_threshold=None, row_factory=dict_row
    ) as database:
        if options.retry:
            return _act(database, console, "retry", options.retry, yes=options.yes)
        if options.refund:
            return _act(database, console, "refund", options.refund, yes=options.yes)
        _show_intake(database, console)
        _show_stuck(database, console)
    return 0


def _show_intake(database: Database, console: Console) -> None:
    (intake,) = database.execute("select * from backend.get_intake()").fetchall()
    if intake["is_closed"]:
        console.print(
            f"intake: CLOSED since {_ago(intake['closed_at'])}, until {intake['closed_until']:%H:%M:%S %Z}"
            f" (closure {intake['closures']} in a row): we are out of credits at BabySea"
        )
    else:
        console.print("intake: open")


def _show_stuck(database: Database, console: Console) -> None:
    rows = database.execute(
        "select * from backend.list_stuck(%s, %s)", (IDLE_SECONDS, LIMIT)
    ).fetchall()
    console.print(f"stuck: {len(rows) or 'nothing'}")
    if not rows:
        return
    names = (
        "generation",
        "state",
        "why",
        "since",
        "sweeps",
        "failures",
        "last error",
        "next look",
        "reserved",
    )
    table = Table(*names)
    for row in rows:
        table.add_row(
            str(row["generation_id"]),
            row["status"],
            row["reason"],
            _ago(row["since"]),
            str(row["attempts"]),
            str(row["failures"]),
            row["last_error"] or "",
            "never: left to you" if row["reason"] == "poisoned" else _in(row["wake_at"]),
            f"{row['reserved']:.3f}",
        )
    console.print(table)
    console.print("make ops RETRY=id   make ops REFUND=id")


def _act(
    database: Database, console: Console, command: str, generation_id: UUID, *, yes: bool
) -> int:
    found = database.execute(
        "select g.status, g.cost_credits, d.sent_at is null as is_unsent,"
        " d.failures >= backend.poison_after() as is_poisoned"
        " from public.generations g join backend.dispatches d on d.generation_id = g.id"
        " where g.id = %s and d.finished_at is null",
        (generation_id,),
    ).fetchone()
    if found is None:
        console.print(f"{generation_id}: finished or unknown, there is nothing to do")
        return 1
    console.print(
        f"{generation_id}: {found['status']}, {found['cost_credits']:.3f} credits reserved"
    )
    console.print(_RETRY if command == "retry" else _REFUND[_refund_way(found)])
    if not yes and not _is_agreed(console):
        console.print("nothing was done")
        return 1
    query = (
        "select backend.retry_generation(%s) as outcome"
        if command == "retry"
        else "select backend.refund_generation(%s) as outcome"
    )
    (row,) = database.execute(query, (generation_id,)).fetchall()
    console.print(f"{command}: {row['outcome']}")
    return 1 if row["outcome"] == "ignored" else 0


def _refund_way(found: dict[str, Any]) -> str:
    """Return how SQL will end it, in the order `backend.refund_generation` decides."""
    if found["is_poisoned"] or (found["status"] == "queued" and found["is_unsent"]):
        return "now"
    return "storing" if found["status"] == "storing" else "asking"


def _is_agreed(console: Console) -> bool:
    try:
        return console.input("Do it? [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def _ago(at: datetime) -> str:
    return f"{_span((datetime.now(UTC) - at).total_seconds())} ago"


def _in(at: datetime | None) -> str:
    seconds = (at - datetime.now(UTC)).total_seconds() if at else 0
    return f"in {_span(seconds)}" if seconds > 0 else "next sweep"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


if __name__ == "__main__":
    sys.exit(main())
