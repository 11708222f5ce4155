"""One run after the other: set up, chaos, recovery, checks."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pkgutil
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Self
from unittest.mock import patch
from uuid import UUID, uuid4

import psycopg
from aws_lambda_powertools import Metrics
from psycopg.rows import dict_row

import holdfast
from local.database import copy_database, create_database, drop_database, migrate
from local.postgres import PostgresServer
from local.standins.babysea_job import Job
from local.standins.supabase import Supabase
from tests.chaos import virtual_time
from tests.chaos.boundary import Boundary
from tests.chaos.checks import Books, Row
from tests.chaos.faults import Plan
from tests.chaos.functions import PARAMETERS, Functions
from tests.chaos.scheduler import START, Scheduler
from tests.chaos.users import User
from tests.chaos.world import CHAOS_SECONDS, FACES, World

SWEEP_EVERY = 60.0
_LONGEST_RECOVERY = 80 * 3600.0
_SHORTEST_RECOVERY = 4500.0
"""By then the sweep has compared with Stripe, however its last comparison ended."""
_LONGEST_SWEEP_PAUSE = 900.0
_KEPT = frozenset({"backend.intake"})


@dataclass
class Result:
    """How one run ended; it passed if there are no violations."""

    seed: int
    violations: list[str]
    trail: list[str]
    faults: dict[str, str]
    generations: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    seconds: float = 0.0

    @property
    def shape(self) -> list[str]:
        """What went wrong, without the ids: to tell one failure from another."""
        return sorted({line.partition(":")[0] for line in self.violations})


class ChaosSupabase(Supabase):
    """Storage at an address that does not change."""

    url = FACES["storage"]  # type: ignore[assignment]


class Campaign:
    """
    Runs seeds, one at a time; use as a context manager.

    `defect` is applied to the migrated database, to see that the campaign finds it.
    """

    def __init__(
        self, server: PostgresServer, template: str | None = None, defect: str = ""
    ) -> None:
        self._server = server
        self._template = template
        self._defect = defect
        self._name = f"chaos_{os.getpid()}_{secrets.token_hex(4)}"
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def run(
        self,
        seed: int,
        only: frozenset[str] | None = None,
        *,
        look: Callable[[World], None] | None = None,
    ) -> Result:
        """Run one seed; `only` lets no other faults happen than the named ones."""
        begun = time.monotonic()
        self._empty()
        plan = Plan(seed, only)
        scheduler = Scheduler(plan, self._is_waiting)
        world = World(plan, scheduler, self._functions, self._supabase, self._secrets)
        try:
            self._people(world)
            self._chaos(world)
            self._recover(world)
            self._set_time(scheduler.now)
            books = Books(self._admin, world)
            violations = books.violations()
        finally:
            world.close()
        return Result(
            seed,
            violations,
            scheduler.trail,
            dict(plan.struck),
            Counter(row["status"] for row in books.generations),
            books.lost,
            scheduler.steps,
            time.monotonic() - begun,
        )

    # --- the phases ---

    def _people(self, world: World) -> None:
        random = world.plan.random("people")
        for number in range(1, random.randint(1, 3) + 1):
            user_id = uuid4()
            name = f"user{number}"
            self._set_time(START)
            self._admin.execute(
                "select ledger.grant(%s, 'welcome', %s, %s)",
                (user_id, f"welcome:{user_id}", random.choice(("0.050", "0.500", "3.000"))),
            )
            if random.random() < 0.5:
                purchase = self._purchase(user_id)
                world.scheduler.after(
                    random.uniform(0, 120),
                    f"{name} pays",
                    lambda name=name, purchase=purchase: world.pay(name, *purchase),  # type: ignore[misc]
                )
            token = self._supabase.sign_token(sub=str(user_id))
            world.scheduler.spawn(name, User(world, name, token).run)

    def _purchase(self, user_id: UUID) -> tuple[str, str]:
        """Make a purchase that has no session yet; return whose it is and its id."""
        made = self._admin.execute(
            "select * from backend.create_purchase(%s, 'pack', 'starter', null, 2, 1000, 'usd', 10)",
            (user_id,),
        ).fetchone()
        assert made
        return str(user_id), str(made["purchase_id"])

    def _chaos(self, world: World) -> None:
        scheduler = world.scheduler
        for number in range(1, int(CHAOS_SECONDS / SWEEP_EVERY) + 1):
            scheduler.run(START + number * SWEEP_EVERY)
            world.sweep(number)

    def _recover(self, world: World) -> None:
        """Let everything come back, and the sweep run until nothing is left to do."""
        scheduler = world.scheduler
        world.plan.is_over = True
        world.babysea.account.add(Decimal(100))
        scheduler.note("--- everything is back")
        pause, number = SWEEP_EVERY, 1000
        while scheduler.now < START + _LONGEST_RECOVERY:
            world.sweep(number := number + 1)
            scheduler.run(scheduler.now + pause)
            pause = min(pause * 1.3, _LONGEST_SWEEP_PAUSE)
            if scheduler.now > START + CHAOS_SECONDS + _SHORTEST_RECOVERY and self._all_final():
                while (due := scheduler.next_event) is not None:
                    scheduler.run(due + 1)
                if self._all_final():
                    return

    def _all_final(self) -> bool:
        found = self._admin.execute(
            "select count(*) as open from public.generations where finished_at is null"
        ).fetchone()
        assert found
        return bool(found["open"] == 0)

    # --- what the runs share ---

    def _start(self, stack: ExitStack) -> None:
        if self._template:
            copy_database(self._server, self._template, self._name)
        else:
            create_database(self._server, self._name)
            migrate(self._server.url("postgres", self._name))
        stack.callback(drop_database, self._server, self._name)
        admin_url = self._server.url("supabase_admin", self._name)
        self._admin: psycopg.Connection[Row] = stack.enter_context(
            psycopg.connect(admin_url, autocommit=True, row_factory=dict_row)
        )
        self._admin.execute(virtual_time.CLOCK)
        if self._defect:
            self._admin.execute(self._defect.encode())
        self._admin.execute("set session_replication_role = replica")
        self._monitor = stack.enter_context(psycopg.connect(admin_url, autocommit=True))
        self._tables = self._names_of_tables()

        files = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-chaos-")))
        self._supabase = stack.enter_context(
            contextlib.closing(_Closing(admin_url, files))
        ).supabase
        self._supabase.tokens.algorithm = "HS256"
        self._secrets = {
            "DATABASE_URL": self._server.url("holdfast_backend", self._name),
            "SUPABASE_SECRET_KEY": self._supabase.secret_key,
            "SUPABASE_JWT_SECRET": self._supabase.legacy_jwt_secret,
            "BABYSEA_API_KEY": f"bye_{secrets.token_hex(16)}",
            "BABYSEA_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(16)}",
            "STRIPE_API_KEY": f"sk_test_{secrets.token_hex(16)}",
            "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(16)}",
        }
        for module in pkgutil.walk_packages(holdfast.__path__, "holdfast."):
            importlib.import_module(module.name)
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, logging.NOTSET)
        stack.enter_context(patch.object(Metrics, "add_metric"))
        stack.enter_context(patch.object(Job, "file", _painted_once(Job.file)))
        stack.enter_context(Boundary().installed())
        stack.enter_context(virtual_time.installed())
        self._functions = Functions(self._secrets)
        stack.callback(self._functions.forget)

    def _names_of_tables(self) -> str:
        rows = self._admin.execute(
            "select format('%I.%I', schemaname, tablename) as name from pg_tables"
            " where schemaname in ('public', 'backend', 'ledger')"
            " or (schemaname, tablename) = ('storage', 'objects')"
        ).fetchall()
        return "; ".join(f"delete from {row['name']}" for row in rows if row["name"] not in _KEPT)

    def _empty(self) -> None:
        self._admin.execute(self._tables.encode())
        self._admin.execute(
            "update backend.intake"
            " set closed_at = null, closed_until = null, closures = 0, generation_id = null"
        )
        # nothing is older than the run: else the first comparison with Stripe asks for a month
        self._admin.execute(
            "insert into backend.reconciliations (name, since, next_at)"
            " values ('recent', to_timestamp(%(start)s), to_timestamp(%(start)s)),"
            " ('late', to_timestamp(%(start)s), 'infinity')",
            {"start": START},
        )
        self._functions.forget()

    def _set_time(self, now: float) -> None:
        self._admin.execute("select set_config(%s, %s, false)", (virtual_time.GUC, f"{now:.3f}"))

    def _is_waiting(self, backend_pid: int) -> bool:
        row = self._monitor.execute(
            "select cardinality(pg_blocking_pids(%s)) > 0", (backend_pid,)
        ).fetchone()
        return bool(row and row[0])


class _Closing:
    """A stand-in that was never started, and what it holds."""

    def __init__(self, admin_url: str, files: Path) -> None:
        self.supabase = ChaosSupabase(admin_url, files)

    def close(self) -> None:
        self.supabase._database.close()
        self.supabase._server.server_close()


def _painted_once(paint: Callable[[Job, int], bytes]) -> Callable[[Job, int], bytes]:
    """Paint one file of each format: a thousand pictures would take longer than all the rest."""
    painted: dict[str, bytes] = {}

    def file(job: Job, index: int) -> bytes:
        if job.file_format not in painted:
            painted[job.file_format] = paint(job, index)
        return painted[job.file_format]

    return file


__all__ = ["PARAMETERS", "Campaign", "Result"]
