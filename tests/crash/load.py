"""
A client that calls the ledger without end, and notes each call before it is made and each outcome after it is known.

The notes are flushed to the disk line by line, so that whatever is killed, they say what was acknowledged. As a program
(`python -m tests.crash.load URL NOTES SEED USER...`) it is the client that is killed; in a thread it is one whose
server is.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg

SQL = {
    "grant": "select ledger.grant(%s::uuid, 'pack', %s, %s::numeric)",
    "reserve": "select ledger.reserve(%s::uuid, %s::uuid, %s::numeric)",
    "settle": "select ledger.settle(%s::uuid, %s::numeric)",
    "reverse": "select ledger.reverse(%s, %s, %s::numeric)",
}


@dataclass(frozen=True)
class Noted:
    """A call, and its outcome if it was acknowledged."""

    function: str
    arguments: tuple[str, ...]
    outcome: str | None


class Client:
    """Mixed calls for shared users: it settles and reverses only what it reserved and granted itself."""

    def __init__(self, notes: Path, seed: int, users: list[UUID]) -> None:
        self._notes = notes
        self._dice = random.Random(seed)
        self._users = users
        self._granted: list[tuple[str, int]] = []
        self._open: list[tuple[UUID, int]] = []

    def run(self, url: str) -> None:
        """Call until the connection is lost."""
        try:
            with (
                psycopg.connect(url, autocommit=True) as connection,
                self._notes.open("a") as notes,
            ):
                while True:
                    function, arguments = self._next()
                    _write(notes.fileno(), [function, *arguments])
                    outcome = issue(connection, function, arguments)
                    _write(notes.fileno(), outcome)
                    self._learn(function, arguments, outcome)
        except psycopg.OperationalError:
            return

    def _next(self) -> tuple[str, tuple[str, ...]]:
        dice, user = self._dice, str(self._dice.choice(self._users))
        kind = dice.choice(
            ["grant", "reserve", "reserve", "reserve", "settle", "settle", "reverse"]
        )
        if kind == "settle" and self._open:
            reservation, amount = self._open.pop(dice.randrange(len(self._open)))
            return "settle", (
                str(reservation),
                str(dice.choice([0, amount, dice.randint(0, amount)])),
            )
        if kind == "reverse" and self._granted:
            key, amount = dice.choice(self._granted)
            return "reverse", (key, f"re:{dice.getrandbits(64)}", str(dice.randint(0, amount)))
        if kind == "reserve":
            reservation = UUID(int=dice.getrandbits(128), version=4)
            return "reserve", (user, str(reservation), str(dice.randint(1, 6)))
        return "grant", (user, f"cs:{dice.getrandbits(64)}", str(dice.randint(1, 20)))

    def _learn(self, function: str, arguments: tuple[str, ...], outcome: str) -> None:
        if outcome == "reserved":
            self._open.append((UUID(arguments[1]), int(arguments[2])))
        elif function == "grant":
            self._granted.append((arguments[1], int(arguments[2])))


def issue(
    connection: psycopg.Connection[tuple[str]], function: str, arguments: tuple[str, ...]
) -> str:
    """Make one call and return its outcome."""
    row = connection.execute(SQL[function].encode(), arguments).fetchone()
    assert row
    return row[0]


def read_notes(notes: Path) -> Iterator[Noted]:
    """Yield the calls of one client in their order; a line cut off by the kill was never completed."""
    lines = [line for line in notes.read_text().splitlines(keepends=True) if line.endswith("\n")]
    call: list[str] | None = None
    for line in lines:
        value = json.loads(line)
        if call:
            yield Noted(call[0], tuple(call[1:]), value)
            call = None
        else:
            call = value
    if call:
        yield Noted(call[0], tuple(call[1:]), None)


def _write(descriptor: int, value: object) -> None:
    os.write(descriptor, (json.dumps(value) + "\n").encode())
    os.fsync(descriptor)


if __name__ == "__main__":
    Client(Path(sys.argv[2]), int(sys.argv[3]), [UUID(each) for each in sys.argv[4:]]).run(
        sys.argv[1]
    )
