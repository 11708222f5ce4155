"""
Break the ledger's SQL on purpose, one defect at a time, and see whether the tests notice.

    python -m tools.mutants [NAME ...]

Each mutant is a copy of the migrations with one text replaced; the ledger's tests run on a fresh server with it until
the first failure. Before them the migrations as they are must pass. A mutant that survives, whose text is no longer
there, or with which the tests could not be run at all, fails the run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
MIGRATIONS = ROOT / "sql" / "migrations"
TESTS = [
    *(
        f"tests/sql/test_{name}.py"
        for name in (
            "grant",
            "reserve",
            "settle",
            "reverse",
            "expiry",
            "audit",
            "append_only",
            "rules",
            "seal",
        )
    ),
    "tests/concurrency/test_ledger_races.py",
    "tests/concurrency/test_debt_races.py",
    "tests/sql/test_model.py",
    "tests/interleavings/test_settle_window.py",
    "tests/interleavings/test_pairs.py",
]
PARALLEL = 2
CONTROL_SECONDS = 1800
SLOWER = 3
"""A mutant hangs when its tests take so many times as long as those of the migrations as they are."""

CONTROL = "nothing is changed"
KILLED, KILLED_BY_TIMEOUT, SURVIVED = "killed", "killed by timeout", "SURVIVED"
ERROR, NOT_APPLICABLE = "ERROR", "does not apply"

TABLES = "0002_ledger_tables.sql"
FUNCTIONS = "0003_ledger_functions.sql"
SEAL = "0011_ledger_seal.sql"


@dataclass(frozen=True)
class Mutant:
    """One defect: in `file`, `old` (which occurs once) becomes `new`."""

    name: str
    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Verdict:
    """What the tests said of one mutant: `why` is the test that failed, or what went wrong."""

    name: str
    outcome: str
    why: str = ""
    seconds: float = 0

    @property
    def killed(self) -> bool:
        """Whether the tests noticed it."""
        return self.outcome in {KILLED, KILLED_BY_TIMEOUT}


MUTANTS = [
    Mutant(
        "reserve without the guard",
        FUNCTIONS,
        "where user_id = p_user and available >= p_amount and next_expiry_at > ledger.clock()",
        "where user_id = p_user and next_expiry_at > ledger.clock()",
    ),
    Mutant("reserve spends expired credits", FUNCTIONS, " and next_expiry_at > ledger.clock()", ""),
    Mutant(
        "a repeated reserve keeps its debit",
        FUNCTIONS,
        "    update public.credit_balances set available = available + p_amount"
        " where user_id = p_user and p_amount > 0;\n",
        "",
    ),
    Mutant(
        "another user's reservation id is accepted",
        FUNCTIONS,
        "if r.user_id <> p_user or r.amount <> p_amount then",
        "if r.amount <> p_amount then",
    ),
    Mutant(
        "another amount under a reservation id is accepted",
        FUNCTIONS,
        "if r.user_id <> p_user or r.amount <> p_amount then",
        "if r.user_id <> p_user then",
    ),
    Mutant(
        "a settled reservation looks open",
        FUNCTIONS,
        "return case when r.settled_at is null then 'duplicate' else 'already_settled' end;",
        "return 'duplicate';",
    ),
    Mutant(
        "a missing reservation looks like too few credits",
        FUNCTIONS,
        "return coalesce(ledger.reservation_outcome(p_user, p_reservation, p_amount),"
        " 'insufficient_credits');",
        "return 'insufficient_credits';",
    ),
    Mutant(
        "oldest first, whatever expires",
        FUNCTIONS,
        "order by expires_at, priority, id\n     limit 1",
        "order by id\n     limit 1",
    ),
    Mutant(
        "priority is ignored",
        FUNCTIONS,
        "order by expires_at, priority, id\n     limit 1",
        "order by expires_at, id\n     limit 1",
    ),
    Mutant(
        "latest expiry first",
        FUNCTIONS,
        "order by expires_at, priority, id\n     limit 1",
        "order by expires_at desc, priority, id\n     limit 1",
    ),
    Mutant(
        "oldest first, whatever expires, when the first grant has enough",
        FUNCTIONS,
        "order by expires_at, priority, id\n       limit 1",
        "order by id\n       limit 1",
    ),
    Mutant(
        "priority is ignored when the first grant has enough",
        FUNCTIONS,
        "order by expires_at, priority, id\n       limit 1",
        "order by expires_at, id\n       limit 1",
    ),
    Mutant(
        "a reserve takes from no grant",
        FUNCTIONS,
        "g set remaining = g.remaining - p_amount from kept",
        "g set remaining = g.remaining from kept",
    ),
    Mutant(
        "the first grant is taken from though it has too little",
        FUNCTIONS,
        "from first where first.remaining >= p_amount",
        "from first",
    ),
    Mutant(
        "a reserve takes from a grant before it knows that the id is new",
        FUNCTIONS,
        "from kept where g.id = kept.grant_id",
        "from first where g.id = first.id and first.remaining >= p_amount",
    ),
    Mutant(
        "settle settles again",
        FUNCTIONS,
        "where id = p_reservation and settled_at is null and amount >= p_charge",
        "where id = p_reservation and amount >= p_charge",
    ),
    Mutant(
        "a charge over the reservation is not refused by name",
        FUNCTIONS,
        "where id = p_reservation and settled_at is null and amount >= p_charge",
        "where id = p_reservation and settled_at is null",
    ),
    Mutant("settle forgets the refund", FUNCTIONS, "if r.amount > p_charge then", "if false then"),
    Mutant(
        "settle refunds twice",
        FUNCTIONS,
        "    perform ledger.refund(r);\n",
        "    perform ledger.refund(r);\n    perform ledger.refund(r);\n",
    ),
    Mutant(
        "a full charge locks the balance",
        FUNCTIONS,
        "  if p_charge > 0 then\n",
        "  perform 1 from public.credit_balances where user_id = r.user_id for update;\n"
        "  if p_charge > 0 then\n",
    ),
    Mutant(
        "a refund forgets what is owed",
        FUNCTIONS,
        "v_paid := least(v_balance.owed, v_refund);",
        "v_paid := 0;",
    ),
    Mutant(
        "a grant forgets what is owed",
        FUNCTIONS,
        "v_paid := least(v_balance.owed, p_amount);",
        "v_paid := 0;",
    ),
    Mutant(
        "a partial refund gives back what was charged",
        FUNCTIONS,
        "v_keep := p_reservation.charged + v_paid;",
        "v_keep := v_paid;",
    ),
    Mutant(
        "a refund revives an expired grant",
        FUNCTIONS,
        "where id = p_reservation.grant_ids[i] and expires_at > ledger.clock()",
        "where id = p_reservation.grant_ids[i]",
    ),
    Mutant(
        "a restored grant's expiry is overlooked",
        FUNCTIONS,
        "    v_next := least(v_next, ledger.clock() + v_grace);\n",
        "",
    ),
    Mutant(
        "reserve reads, then writes",
        FUNCTIONS,
        """\
    update public.credit_balances set available = available - p_amount
     where user_id = p_user and available >= p_amount and next_expiry_at > ledger.clock()
     returning available into v_available;
    if not found then
""",
        """\
    select available - p_amount into v_available from public.credit_balances
     where user_id = p_user and available >= p_amount and next_expiry_at > ledger.clock();
    if found then
      update public.credit_balances set available = v_available where user_id = p_user;
    else
""",
    ),
    Mutant(
        "settle looks for the open reservation before it locks it",
        FUNCTIONS,
        "where id = p_reservation and settled_at is null and amount >= p_charge",
        "where id = p_reservation and amount >= p_charge and exists (select from"
        " public.credit_reservations where id = p_reservation and settled_at is null)",
    ),
    Mutant(
        "a settle refuses what was reserved a moment ago",
        FUNCTIONS,
        "    elsif r.amount >= p_charge then\n"
        "      -- its reserve committed between the two statements: now the first one finds it\n"
        "      return ledger.settle(p_reservation, p_charge);\n",
        "",
    ),
    Mutant(
        "a partial charge locks the other way round",
        FUNCTIONS,
        "  update public.credit_reservations set charged",
        "  perform from public.credit_balances b join public.credit_reservations o using (user_id)"
        " where o.id = p_reservation and o.amount > p_charge and p_charge > 0 for update of b;\n"
        "  update public.credit_reservations set charged",
    ),
    Mutant(
        "a reversal keeps what it read of the grant before it locked it",
        FUNCTIONS,
        "  select * into g from public.credit_grants where id = g.id;\n",
        "",
    ),
    Mutant(
        "a refund reads the balance before it locks it",
        FUNCTIONS,
        "from public.credit_balances where user_id = p_reservation.user_id for update;",
        "from public.credit_balances where user_id = p_reservation.user_id;",
    ),
    Mutant(
        "a grant reads the debt before it locks it",
        FUNCTIONS,
        "select * into v_balance from public.credit_balances where user_id = p_user for update;",
        "select * into v_balance from public.credit_balances where user_id = p_user;",
    ),
    Mutant(
        "expiry reads the balance before it locks it",
        FUNCTIONS,
        "    from public.credit_balances where user_id = p_user for update;",
        "    from public.credit_balances where user_id = p_user;",
    ),
    Mutant(
        "a grant key of other terms is a duplicate",
        FUNCTIONS,
        "where source_key = p_source_key and user_id = p_user and amount = p_amount"
        " and source = p_source",
        "where source_key = p_source_key",
    ),
    Mutant("four decimals are an amount", FUNCTIONS, " and p_value = round(p_value, 3)", ""),
    Mutant("negative amounts are amounts", FUNCTIONS, "coalesce(p_value >= 0 and", "coalesce("),
    Mutant(
        "nothing can be granted",
        FUNCTIONS,
        "if p_amount = 0 or not ledger.is_amount",
        "if not ledger.is_amount",
    ),
    Mutant(
        "more is reversed than was granted",
        FUNCTIONS,
        "if p_reversed_total > g.amount then",
        "if false then",
    ),
    Mutant(
        "a late copy of a reversal counts again",
        FUNCTIONS,
        "  if not found then\n    if exists (\n      select from public.credit_reversals",
        "  if false then\n    if exists (\n      select from public.credit_reversals",
    ),
    Mutant(
        "expired credits are clawed back from others",
        FUNCTIONS,
        "v_absorbed := least(v_change - v_own, g.expired - g.absorbed);",
        "v_absorbed := 0;",
    ),
    Mutant(
        "a clawback makes debt while there are credits",
        FUNCTIONS,
        "v_others := least(v_change - v_own - v_absorbed, v_balance.available - v_own);",
        "v_others := 0;",
    ),
    Mutant(
        "a restore forgets what is owed",
        FUNCTIONS,
        "v_owed := -least(v_balance.owed, v_absorbed - v_change);",
        "v_owed := 0;",
    ),
    Mutant(
        "a restore revives an expired grant",
        FUNCTIONS,
        "case when expires_at > ledger.clock() then remaining - v_own else remaining end",
        "remaining - v_own",
    ),
    Mutant(
        "expiry leaves the balance",
        FUNCTIONS,
        "set available = v_available,\n         next",
        "set next",
    ),
    Mutant(
        "expiry is late by a moment",
        FUNCTIONS,
        "is_open and expires_at <= ledger.clock()",
        "is_open and expires_at < ledger.clock()",
    ),
    Mutant("the sweep waits for a busy account", FUNCTIONS, "for update skip locked", "for update"),
    Mutant(
        "entries can be changed",
        TABLES,
        "before update or delete or truncate on",
        "before truncate on",
    ),
    Mutant(
        "a reservation can be charged twice in the journal",
        TABLES,
        "create unique index credit_ledger_once_per_reservation",
        "create index credit_ledger_once_per_reservation",
    ),
    Mutant(
        "a key can be entered twice in the journal",
        TABLES,
        "create unique index credit_ledger_once_per_key",
        "create index credit_ledger_once_per_key",
    ),
    Mutant(
        "debt beside available credits is kept",
        TABLES,
        "when (new.owed > 0 and new.available > 0)",
        "when (false)",
    ),
    Mutant(
        "a grant reversed beyond its amount is kept",
        TABLES,
        "new.reversed > new.amount or ",
        "",
    ),
    Mutant(
        "a grant that absorbed more than expired is kept",
        TABLES,
        " or new.absorbed > least(new.expired, new.reversed)",
        "",
    ),
    Mutant(
        "a source key grants twice",
        TABLES,
        "source_key text not null unique,",
        "source_key text not null,",
    ),
    Mutant(
        "a seal does not wait for open transactions",
        SEAL,
        "     and pg_snapshot_xmin(pg_current_snapshot()) >= v_horizon.snapshot_xmax\n",
        "",
    ),
    Mutant("a seal ignores the one before", SEAL, "sha256(coalesce(p_previous, '') ||", "sha256("),
]


def try_mutant(mutant: Mutant, timeout: float) -> Verdict:
    """Run the tests on one mutant until the first failure, or for `timeout` seconds."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        migrations = Path(folder) / "migrations"
        shutil.copytree(MIGRATIONS, migrations)
        text = (migrations / mutant.file).read_text()
        if text.count(mutant.old) != 1:
            return Verdict(mutant.name, NOT_APPLICABLE, f"{text.count(mutant.old)} places")
        (migrations / mutant.file).write_text(text.replace(mutant.old, mutant.new))
        Path(folder).chmod(0o755)
        return run_tests(mutant.name, migrations, timeout)


def run_tests(name: str, migrations: Path, timeout: float) -> Verdict:
    """Run the tests on a folder of migrations until the first failure, or for `timeout` seconds."""
    began = time.monotonic()
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and tests
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS],
            cwd=ROOT,
            env=os.environ | {"MIGRATIONS": str(migrations)},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        outcome, why = KILLED_BY_TIMEOUT, f"no end within {timeout:.0f} s"
    else:
        outcome, why = judge(done.returncode, done.stdout + done.stderr)
    return Verdict(name, outcome, why, time.monotonic() - began)


def judge(status: int, output: str) -> tuple[str, str]:
    """
    Say what a run of pytest means, and why.

    Only a test that failed has noticed a mutant: migrations that do not apply, a fixture or a collection that breaks
    say nothing about the tests.
    """
    if status == 0:
        return SURVIVED, ""
    lines = output.split("\n")
    failed = [line for line in lines if line.startswith("FAILED ")]
    if status == 1 and failed:
        return KILLED, failed[0].partition("::")[2].partition(" - ")[0]
    said = [line for line in lines if line.startswith("ERROR ")] or [line for line in lines if line]
    return ERROR, f"exit status {status}: {(said or ['no word'])[-1]}"


def main() -> int:
    """Try all mutants, or those whose names are given, and print the table."""
    wanted = sys.argv[1:]
    mutants = [mutant for mutant in MUTANTS if not wanted or mutant.name in wanted]
    console = Console(highlight=False)
    if unknown := {*wanted} - {mutant.name for mutant in MUTANTS}:
        console.print(f"no such mutant: {', '.join(sorted(unknown))}")
        return 1
    control = run_tests(CONTROL, MIGRATIONS, CONTROL_SECONDS)
    if control.outcome != SURVIVED:
        console.print(f"{control.name}, and yet: {control.outcome}, {control.why}")
        return 1
    console.print(f"{control.name}: the tests pass, {control.seconds:.0f} s")
    limits = [SLOWER * control.seconds] * len(mutants)
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(PARALLEL) as pool:
        for verdict in pool.map(try_mutant, mutants, limits):
            verdicts.append(verdict)
            console.print(f"{len(verdicts):3}/{len(mutants)}  {verdict.outcome:17} {verdict.name}")
    table = Table("mutant", "outcome", "first test that fails", "seconds")
    for verdict in verdicts:
        table.add_row(verdict.name, verdict.outcome, verdict.why, f"{verdict.seconds:.0f}")
    console.print(table)
    killed = sum(verdict.killed for verdict in verdicts)
    console.print(f"{killed} of {len(verdicts)} mutants killed")
    return 0 if killed == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
