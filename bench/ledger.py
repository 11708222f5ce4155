"""
What a reserve and a charge cost, beside the usual design of a credit ledger and beside bare statements.

    python -m bench.ledger [--quick] [--output FOLDER]

All of it runs on one durable PostgreSQL in one go, the order of the designs alternating from round to round, because
on a shared machine only the ratio of neighbouring runs means anything. bench/README.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, LiteralString

import psycopg
from rich.console import Console

from bench import workload
from bench.report import FULL, LOADS, QUICK, Check, Results, write
from local.database import copy_database, create_database, migrate
from local.postgres import SUPERUSER, PostgresServer, find_binaries, local_postgres

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
CLIENTS, THREADS = 16, 2
WARM = "--transactions=50"
SEARCHES, SEARCH_SECONDS = 20, 0.5
SETTINGS = {
    "shared_buffers": "512MB",
    # neither a checkpoint nor autovacuum lands in one design's turn: vacuum runs between the turns
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}
DESIGNS = {
    "ours": "",  # the product's migrations
    "usual": "usual_design.sql",
    "tuned": "tuned_design.sql",
    "floor": "floor.sql",
}
"""The databases, one a design, and what makes them."""

console = Console(highlight=False)


class Bench:
    """One server with a database for each design; every method but `set_up` needs what it made."""

    def __init__(self, server: PostgresServer, results: Results) -> None:
        self._server = server
        self._results = results
        self._runs = 0
        self._began = time.monotonic()

    def set_up(self) -> None:
        """Create the databases, give every account the same credits, and keep copies for the search."""
        for database, design in DESIGNS.items():
            create_database(self._server, database)
            if database == "ours":
                migrate(self._server.url("postgres", database))
                continue
            with psycopg.connect(self._server.url("postgres", database), autocommit=True) as owner:
                owner.execute((HERE / design).read_bytes())
        for database, statements in workload.SEEDS.items():
            self._run(database, *statements)
            self._run(database, "vacuum (analyze)")
            if database in workload.SEARCHES:
                copy_database(self._server, database, f"{database}_past")
        self._run("postgres", "checkpoint")
        self._note(f"{self._results.plan.accounts:,} accounts in each design")

    def measure_load(self) -> None:
        """Measure (a) spread, (b) hot and (c) the floor, every design next to the others."""
        for load in LOADS:
            for design in workload.SCRIPTS:
                self._pgbench(design, load, WARM)
        self._note("warm")
        for number, order in _alternate(list(workload.SCRIPTS), self._results.plan.rounds):
            for load in LOADS:
                figures = self._results.load.setdefault(load, {})
                for design in order:
                    rate = self._pgbench(design, load, self._results.plan.turn)
                    figures.setdefault(design, []).append(rate)
                shown = ", ".join(f"{name} {figures[name][-1]:,.0f}" for name in workload.SCRIPTS)
                self._note(
                    f"round {number} of {self._results.plan.rounds}, {load}: {shown} pairs/s"
                )

    def check(self) -> None:
        """Compare the books with what pgbench was told, and audit ours."""
        for name, database, statement in workload.CHECKS:
            pairs = self._results.pairs[database]
            ((holds, found),) = self._run(database, statement, pairs=pairs)
            self._results.checks.append(Check(name, holds, found))
            self._note(f"{name}: {found}")

    def measure_search(self) -> None:
        """Measure (d), the search for stuck reservations, as settled ones pile up behind it."""
        for design, statements in workload.STUCK_RESERVATIONS.items():
            self._run(f"{design}_past", *statements, stuck=workload.STUCK)
        after = 0
        for size in self._results.plan.sizes:
            for design, statements in workload.HISTORY.items():
                self._run(f"{design}_past", *statements, after=after, upto=size)
                self._run(f"{design}_past", "vacuum (analyze)")
            after = size
            figures = self._results.search.setdefault(size, {})
            with contextlib.ExitStack() as stack:
                owners = {
                    design: stack.enter_context(
                        psycopg.connect(self._server.url("postgres", f"{design}_past"))
                    )
                    for design in workload.SEARCHES
                }
                for design, owner in owners.items():
                    owner.execute(workload.SEARCHES[design])  # fills the caches
                for _, order in _alternate(list(owners), self._results.plan.searches):
                    for design in order:
                        taken = self._time_search(owners[design], design)
                        figures.setdefault(design, []).append(taken)
            shown = ", ".join(f"{name} {median(times):.2f}" for name, times in figures.items())
            self._note(f"search behind {size:,} settled reservations: {shown} ms")

    def _pgbench(self, design: str, load: str, turn: str) -> float:
        """Put one design under load; return its pairs of reserve and charge a second."""
        self._run(design, "vacuum (analyze)")
        self._runs += 1
        script = self._server.run / "script"
        script.write_text(workload.SCRIPTS[design])
        options = {
            "protocol": "extended",
            "client": CLIENTS,
            "jobs": THREADS,
            "file": script,
            "host": "127.0.0.1",
            "port": self._server.port,
            "username": "holdfast_backend",
        }
        variables = {
            "run": self._runs,
            "accounts": self._results.plan.accounts if load == "spread" else 1,
            "n": 0,
        }
        command = [str(self._server.bins / "pgbench"), "--no-vacuum", turn]
        command += [f"--{name}={value}" for name, value in options.items()]
        command += [f"--define={name}={value}" for name, value in variables.items()]
        done = subprocess.run([*command, design], check=False, capture_output=True, text=True)
        processed = re.search(r"actually processed: (\d+)", done.stdout)
        rate = re.search(r"tps = ([\d.]+)", done.stdout)
        if done.returncode or not processed or not rate:
            raise RuntimeError(f"pgbench failed:\n{done.stdout}{done.stderr}")
        pairs = self._results.pairs
        pairs[design] = pairs.get(design, 0) + int(processed[1])
        return float(rate[1])

    def _time_search(self, owner: psycopg.Connection, design: str) -> float:
        """Return the milliseconds of one search: the median of as many as fit into the turn."""
        times: list[float] = []
        while not times or (len(times) < SEARCHES and sum(times) < SEARCH_SECONDS * 1000):
            began = time.perf_counter()
            found = owner.execute(workload.SEARCHES[design]).fetchall()
            times.append((time.perf_counter() - began) * 1000)
            if len(found) != workload.STUCK:
                raise RuntimeError(f"{design} found {len(found)} of {workload.STUCK}")
        return median(times)

    def _run(self, database: str, *statements: LiteralString, **params: int) -> list[Any]:
        """Run statements as the superuser, each a transaction; return the rows of the last one."""
        rows: list[Any] = []
        with psycopg.connect(self._server.url(SUPERUSER, database), autocommit=True) as admin:
            cursor = psycopg.ClientCursor(admin)
            for statement in statements:
                cursor.execute(statement, params | {"accounts": self._results.plan.accounts})
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def _note(self, text: str) -> None:
        console.print(f"[dim]{time.monotonic() - self._began:5.0f} s[/dim]  {text}")


def _alternate(designs: list[str], rounds: int) -> Iterator[tuple[int, list[str]]]:
    for number in range(1, rounds + 1):
        yield number, designs if number % 2 else designs[::-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; return 1 when the books are wrong afterwards, 2 when there is no pgbench."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="see that it runs: no figure to quote")
    parser.add_argument("--output", type=Path, default=OUT, help="folder of ledger.json and .png")
    options = parser.parse_args(arguments)
    if not (find_binaries() / "pgbench").exists():
        console.print(
            f"no pgbench in {find_binaries()}: unset PGBIN to use the embedded PostgreSQL, or set it"
            " to a folder with pgbench beside the server (Debian: /usr/lib/postgresql/15/bin)"
        )
        return 2
    results = Results(_machine(), QUICK if options.quick else FULL)
    with tempfile.TemporaryDirectory(prefix="hf-bench-") as folder:
        Path(folder).chmod(0o755)  # for root the server runs as another account
        cluster = Path(folder) / "data"
        with local_postgres(cluster) as server, psycopg.connect(server.admin_url) as admin:
            admin.autocommit = True
            for name, value in SETTINGS.items():
                admin.execute(f"alter system set {name} = '{value}'")
            results.machine["postgres"] = _version(admin)
        with local_postgres(cluster) as server:
            bench = Bench(server, results)
            bench.set_up()
            bench.measure_load()
            bench.check()
            bench.measure_search()
    results.machine["load_after"] = os.getloadavg()
    write(results, console, options.output)
    return 0 if all(check.holds for check in results.checks) else 1


def _machine() -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load_before": os.getloadavg(),
        "clients": CLIENTS,
        "threads": THREADS,
        "protocol": "extended, unprepared, over TCP, as the functions behind a pooler",
        "settings": SETTINGS | {"fsync": "on", "synchronous_commit": "on"},
    }


def _version(admin: psycopg.Connection) -> str:
    row = admin.execute("show server_version").fetchone()
    return str(row[0]) if row else ""


if __name__ == "__main__":
    sys.exit(main())
