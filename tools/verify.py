"""
Prove the books of any database: the audit of every balance and the chain of seals.

    DATABASE_URL=postgresql://... python -m tools.verify [--seal ID:HASH]

`--seal` is a seal's id and hash noted elsewhere, for instance from the sweep's log: with it a chain that was written
anew is found as well. Exit status 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table


def main(arguments: list[str] | None = None, console: Console | None = None) -> int:
    """Print a short report; return 0 when the books are right."""
    parser = argparse.ArgumentParser(prog="make verify", description=__doc__)
    parser.add_argument("--seal", metavar="ID:HASH", type=_seal, default=(None, None))
    options = parser.parse_args(arguments)
    url = os.environ.get("DATABASE_URL")
    if not url:
        parser.error("set DATABASE_URL to the database to verify")
    console = console or Console(highlight=False)
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as database:
        violations = database.execute(
            "select user_id, invariant, subject, expected, found from ledger.audit()"
        ).fetchall()
        findings = database.execute(
            "select seal_id, entry_id, problem from ledger.verify(%s, %s)", options.seal
        ).fetchall()
        newest = database.execute("select seal_id, seal_hash from ledger.newest_seal()").fetchone()
    _show(
        console, "ledger.audit()", ("user", "invariant", "subject", "expected", "found"), violations
    )
    _show(console, "ledger.verify()", ("seal", "entry", "problem"), findings)
    if newest:
        console.print(f"newest seal: {newest[0]}:{newest[1]}")
    return 1 if violations or findings else 0


def _seal(text: str) -> tuple[int, str]:
    number, _, digest = text.partition(":")
    return int(number), digest


def _show(
    console: Console, title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]
) -> None:
    console.print(f"{title}: {'nothing wrong' if not rows else f'{len(rows)} problems'}")
    if rows:
        table = Table(*columns)
        for row in rows:
            table.add_row(*("" if value is None else str(value) for value in row))
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
