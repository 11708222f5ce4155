"""kill -9 of the server and of its clients under load: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from local.database import ROOT, create_database, migrate
from local.postgres import PostgresServer, local_postgres
from tests.crash.load import Client, Noted, issue, read_notes
from tests.database import TestDatabase
from tests.factories import Ledger, new_user
from tests.ledger_profile import FULL, TIMEOUT_SECONDS

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)

CLIENTS = 6
ROUNDS = 20 if FULL else 4
SEED = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(10**6))))

BUSY_BYTES = 4000
"""Of notes: some 30 calls."""

FIRST = {
    "grant": {"granted"},
    "reserve": {"reserved"},
    "settle": {"settled"},
    "reverse": {"clawed_back", "restored", "unchanged"},
}
AGAIN = {
    "grant": {"duplicate"},
    "reserve": {"duplicate", "already_settled"},
    "settle": {"already_settled"},
    "reverse": {"duplicate"},
}
REFUSED = {"insufficient_credits"}

SESSIONS = """
select count(*) from pg_stat_activity
 where datname = current_database() and usename = 'holdfast_backend'
"""


class Expected:
    """What the acknowledged calls of all rounds amount to, reckoned without the ledger."""

    def __init__(self) -> None:
        self.grants: dict[str, tuple[str, int]] = {}
        self.reservations: dict[str, tuple[str, int]] = {}
        self.charges: dict[str, int] = {}
        self.reversed: dict[str, int] = {}

    def check(self, database: TestDatabase, notes: Sequence[Path]) -> None:
        """Issue each call again, twice where nobody knows its outcome, and compare the books."""
        audit = Ledger(database).audit
        assert audit() == []
        with psycopg.connect(database.url("holdfast_backend"), autocommit=True) as connection:
            for call in (call for path in notes for call in read_notes(path)):
                self._learn(call, happened=_has_happened(connection, call))
        assert audit() == []
        assert _worths(database) == self._worths()
        entries = "select type, count(*) from credit_ledger where type = any(%s) group by 1"
        assert {
            row["type"]: row["count"]
            for row in database.rows(entries, ["grant", "reserve", "charge"])
        } == {
            "grant": len(self.grants),
            "reserve": len(self.reservations),
            "charge": sum(charge > 0 for charge in self.charges.values()),
        }

    def _learn(self, call: Noted, *, happened: bool) -> None:
        if not happened:
            return
        match call.function, call.arguments:
            case "grant", (user, key, amount):
                self.grants[key] = user, int(amount)
            case "reserve", (user, reservation, amount):
                self.reservations[reservation] = user, int(amount)
            case "settle", (reservation, charge):
                self.charges[reservation] = int(charge)
            case "reverse", (key, _, total):
                self.reversed[key] = int(total)

    def _worths(self) -> dict[UUID, Decimal]:
        worths = Counter[UUID]()
        for key, (user, amount) in self.grants.items():
            worths[UUID(user)] += amount - self.reversed.get(key, 0)
        for reservation, charge in self.charges.items():
            worths[UUID(self.reservations[reservation][0])] -= charge
        return {user: Decimal(worth) for user, worth in worths.items()}


def _worths(database: TestDatabase) -> dict[UUID, Decimal]:
    """Return what each user has, reserved credits included, less what is owed."""
    found = database.rows(
        "select user_id, available - owed + coalesce(("
        "  select sum(amount) from credit_reservations r"
        "   where r.user_id = b.user_id and settled_at is null), 0) as worth from credit_balances b"
    )
    return {row["user_id"]: row["worth"] for row in found}


def _has_happened(connection: psycopg.Connection[tuple[str]], call: Noted) -> bool:
    """Issue a call again, as its caller would; fail unless it is there once."""
    outcome = call.outcome
    if outcome is None:
        outcome = issue(connection, call.function, call.arguments)
        assert outcome in FIRST[call.function] | AGAIN[call.function] | REFUSED, (call, outcome)
    if outcome in REFUSED:
        return False
    again = issue(connection, call.function, call.arguments)
    assert again in AGAIN[call.function], (call, again)
    return True


def test_server_is_killed(cluster: Path, tmp_path: Path) -> None:
    """After each kill -9 of the whole server under load, its restart has every acknowledged outcome, once."""
    dice, expected, users = _begin()
    for round_ in range(ROUNDS):
        notes = [tmp_path / f"{round_}{n}" for n in range(CLIENTS)]
        with local_postgres(cluster) as server, ThreadPoolExecutor(CLIENTS) as pool:
            url = server.url("holdfast_backend", "crash")
            clients = [Client(path, dice.getrandbits(32), users) for path in notes]
            running = [pool.submit(client.run, url) for client in clients]
            try:
                _wait_until_busy(notes)
                time.sleep(dice.uniform(0, 1))
            finally:
                _kill(server)  # without it the clients would never end
            for each in running:
                each.result(timeout=60)
        with local_postgres(cluster) as server, TestDatabase(server, "crash") as database:
            expected.check(database, notes)


@pytest.mark.own_database
def test_clients_are_killed(db: TestDatabase, tmp_path: Path) -> None:
    """After each kill -9 of all clients under load, what they noted is there, and the rest once or never."""
    dice, expected, users = _begin()
    for round_ in range(ROUNDS):
        notes = [tmp_path / f"{round_}{n}" for n in range(3)]
        command = [sys.executable, "-m", "tests.crash.load", db.url("holdfast_backend")]
        running = [
            subprocess.Popen(
                [*command, path, str(dice.getrandbits(32)), *map(str, users)], cwd=ROOT
            )
            for path in notes
        ]
        try:
            _wait_until_busy(notes)
            time.sleep(dice.uniform(0, 0.5))
        finally:
            for each in running:
                each.kill()
                each.wait(60)
        # what was sent is still carried out; until then nobody can know which calls took place
        _wait_until(lambda: db.value(SESSIONS) == 0)
        expected.check(db, notes)
        db.close()


@pytest.mark.own_database
def test_a_loss_is_noticed(db: TestDatabase, tmp_path: Path) -> None:
    """An acknowledged call that the books do not have fails the check."""
    (tmp_path / "notes").write_text(f'["grant", "{new_user()}", "cs:lost", "5"]\n"granted"\n')

    with pytest.raises(AssertionError, match="cs:lost"):
        Expected().check(db, [tmp_path / "notes"])


@pytest.fixture(name="cluster")
def _cluster() -> Iterator[Path]:
    """Return the data directory of a migrated server that is down; the server's account can reach it."""
    with tempfile.TemporaryDirectory(prefix="hf-crash-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        data = Path(folder) / "data"
        with local_postgres(data) as server:
            create_database(server, "crash")
            migrate(server.url("postgres", "crash"))
        yield data


def _begin() -> tuple[random.Random, Expected, list[UUID]]:
    print(f"CRASH_SEED={SEED}")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(SEED), Expected(), [new_user() for _ in range(3)]


def _wait_until_busy(notes: Sequence[Path]) -> None:
    _wait_until(lambda: all(path.exists() and path.stat().st_size > BUSY_BYTES for path in notes))


def _wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def _kill(server: PostgresServer) -> None:
    """Kill the postmaster and all its children; stopped first, it cannot start another one meanwhile."""
    os.kill(server.pid, signal.SIGSTOP)
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True
    )
    processes = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    for pid, parent in processes:
        if parent == server.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    os.kill(server.pid, signal.SIGKILL)
