"""Generations that do not move: the list, and what an operator can do about one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rich.console import Console

from tools.asking import is_agreed
from tools.ops_text import Database, ago, table, until

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


def show_intake(database: Database, console: Console) -> None:
    """Say whether new generations are taken."""
    (intake,) = database.execute("select * from backend.get_intake()").fetchall()
    if intake["is_closed"]:
        console.print(
            f"intake: CLOSED since {ago(intake['closed_at'])}, until {intake['closed_until']:%H:%M:%S %Z}"
            f" (closure {intake['closures']} in a row): we are out of credits at BabySea"
        )
    else:
        console.print("intake: open")


def show_stuck(database: Database, console: Console) -> None:
    """List what is stuck, why and since when."""
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
    cells = (
        (
            row["generation_id"],
            row["status"],
            row["reason"],
            row["since"],
            row["attempts"],
            row["failures"],
            row["last_error"],
            "never: left to you" if row["reason"] == "poisoned" else until(row["wake_at"]),
            row["reserved"],
        )
        for row in rows
    )
    console.print(table(names, cells))
    console.print("make ops RETRY=id   make ops REFUND=id")


def act(
    database: Database, console: Console, command: str, generation_id: UUID, *, yes: bool
) -> int:
    """Retry or refund one generation and return the exit status."""
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
    if not yes and not is_agreed(console):
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
