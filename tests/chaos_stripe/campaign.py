"""One run after the other: a story under chaos, one reconciliation, checks."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Self
from unittest.mock import patch

from aws_lambda_powertools import Metrics

from holdfast.catalog import catalog
from local.database import copy_database, create_database, drop_database, migrate
from local.postgres import PostgresServer
from tests.chaos_stripe.checks import Books
from tests.chaos_stripe.defects import defective
from tests.chaos_stripe.story import Story
from tests.chaos_stripe.world import Terms, World
from tests.database import TestDatabase
from tools.stripe_catalog import CatalogPublisher

_GENEROUS_DAYS = 60  # the most there may be: of a run of 80 days next to nothing ends
_REPLAYED = 0.1
_CHANGES = 4


@dataclass
class Result:
    """How one run ended; it passed if there are no violations."""

    seed: int
    violations: list[str]
    trail: list[str]
    totals: Counter[str]
    seconds: float

    @property
    def shape(self) -> list[str]:
        """What went wrong, without the names: to tell one failure from another."""
        return sorted({line.partition(":")[0] for line in self.violations})


class Campaign:
    """Runs seeds, one at a time, each in a database of its own; use as a context manager."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._name = f"chaos_stripe_{os.getpid()}_{secrets.token_hex(4)}"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            create_database(self._server, self._name)
            stack.callback(drop_database, self._server, self._name)
            migrate(self._server.url("postgres", self._name))
            logging.disable(logging.CRITICAL)
            stack.callback(logging.disable, logging.NOTSET)
            stack.enter_context(patch.object(Metrics, "add_metric"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, seed: int, defect: str | None = None) -> Result:
        """Run one seed, on a product with the named defect if there is one."""
        begun = time.monotonic()
        with (
            defective(defect) as sql,
            self._database(sql) as database,
            World(seed, database, _terms(seed)) as world,
        ):
            publisher = CatalogPublisher(world.other.client)
            for change in list(publisher.changes()):
                change.run()
            for name in ("recent", "late"):
                world.other.store.claim(name, every_seconds=1, lease_seconds=1)
                world.other.store.finish(name, world.now)
            story = Story(world)
            with patch("holdfast.usecases.reconcile.report", world.report):
                story.tell()
                violations = _end(world, story)
        return Result(seed, violations, world.trail, world.totals, time.monotonic() - begun)

    @contextmanager
    def _database(self, defect: str) -> Iterator[TestDatabase]:
        name = f"{self._name}_run"
        copy_database(self._server, self._name, name)
        try:
            with TestDatabase(self._server, name) as database:
                database.connection("supabase_admin").execute(defect.encode())
                yield database
        finally:
            drop_database(self._server, name)


def _end(world: World, story: Story) -> list[str]:
    """Let everything come back, reconcile once, and compare."""
    books = Books(world, story)
    world.everything_is_back()
    story.settle_all()
    world.pass_an_hour()
    world.totals["users"] += len(story.users)
    world.totals["wrong before reconciliation"] += books.wrong_balances()
    world.totals["repaired by reconciliation"] += world.reconcile(changes=_CHANGES)
    violations = books.violations()
    world.totals += books.figures()
    if violations:
        return violations
    before = books.snapshot()
    world.deliver_the_rest(_REPLAYED)
    if books.snapshot() != before:
        return ["late events: they changed the books after the reconciliation", *books.violations()]
    repaired = world.reconcile()
    if repaired or books.snapshot() != before:
        return [f"second reconciliation: it repaired {repaired}", *books.violations()]
    return books.violations()


def _terms(seed: int) -> Terms:
    """Return how long a run lasts, and the catalogue on other terms: the file's are only one way to sell plans."""
    random = Random(f"{seed}/terms")
    expires = random.random() < 0.2
    trial_days = random.choice((0, 0, 0, 7))
    change: dict[str, object] = {
        "yearly": random.choice(("drip", "drip", "at_once")),
        "grants_without_payment": random.random() < 0.2 and (expires or not trial_days),
    }
    if not expires:
        change["grace_days"] = _GENEROUS_DAYS
    days = random.choice((200, 400) if expires else (10, 40, 80))
    plans = tuple(
        plan.model_copy(update=change | ({"trial_days": trial_days} if plan.id == "pro" else {}))
        for plan in catalog().plans
    )
    return Terms(catalog().model_copy(update={"plans": plans}), days)
