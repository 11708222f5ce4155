"""
The same, with nothing simulated: real processes under the Runtime API, killed with SIGKILL, and PostgreSQL too.

Here the operating system decides what happens when; only what is killed and how often comes from the seed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import Any

import httpx
import psycopg
import pytest

from tests.e2e.people import FINAL, FOUR_IMAGES, IMAGE, Person, at_once, wait_for
from tests.e2e.world import World

_FUNCTIONS = (
    "CreateGenerationFunction",
    "BabyseaCallbackFunction",
    "SettleGenerationFunction",
    "RecoverySweepFunction",
)
_WISHES = 8
_LONGER = 6.0


@pytest.fixture(name="world", scope="module")
def _world() -> Iterator[World]:
    # durable: a server without synchronous commits may forget what it has promised when it is killed
    with World(durable=True, SweepAfterSeconds="1") as world:
        yield world


@contextmanager
def killer(world: World, seed: int, *, database: bool) -> Iterator[dict[str, int]]:
    """Kill functions at work, and now and then a session of the server, which takes all of PostgreSQL down."""
    random, stop, kills = Random(seed), threading.Event(), {"functions": 0, "database": 0}

    def run() -> None:
        # slower than a cold start, or nothing would ever begin
        while not stop.wait(random.uniform(0.3, 2.5)):
            name = random.choice(_FUNCTIONS)
            kills["functions"] += world.stack.cloud.functions[name].kill_busy()
            if database and random.random() < 0.3:
                kills["database"] += _kill_session(world)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield kills
    finally:
        stop.set()
        thread.join()


def _kill_session(world: World) -> int:
    """Send SIGKILL to one of the functions' sessions: the server ends all others and recovers from its log."""
    with suppress(psycopg.Error), psycopg.connect(world.stack.admin_database_url) as admin:
        row = admin.execute(
            "select pid from pg_stat_activity where usename = 'holdfast_backend' limit 1"
        ).fetchone()
        if row:
            os.kill(row[0], signal.SIGKILL)
            return 1
    return 0


def _ask(person: Person, wish: dict[str, Any], key: str) -> str:
    """Ask as a client should, with the same key until there is an answer."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            answer = person.ask(wish, key)
            if answer.status_code == 202:
                return str(answer.json()["id"])
        time.sleep(0.2)
    raise AssertionError("never accepted")


def _sweep_until_final(world: World, generation_ids: list[str]) -> None:
    url = world.stack.admin_database_url

    def all_final() -> bool:
        # each look on a new connection: the old one may have died with the server
        world.stack.cloud.fire("RecoverySweepFunction")
        with suppress(psycopg.OperationalError), psycopg.connect(url) as admin:
            admin.execute(
                "update backend.dispatches set leased_until = null, wake_at = null"
                " where finished_at is null and generation_id = any(%s::uuid[])",
                (generation_ids,),
            )
            open_ones = admin.execute(
                "select count(*) from public.generations"
                " where id = any(%s::uuid[]) and status <> all(%s)",
                (generation_ids, list(FINAL)),
            ).fetchone()
            return bool(open_ones and open_ones[0] == 0)
        return False

    wait_for(all_final, 90)


@pytest.mark.parametrize(("seed", "database"), [(1, False), (2, False), (3, True), (4, True)])
def test_everything_is_settled_once(world: World, seed: int, *, database: bool) -> None:
    """After any number of SIGKILLs each generation is final, charged for what is stored, and billed once."""
    world.reconnect()
    world.stack.babysea.behaviour.change(pending=0.02, processing=0.1)
    person = world.person("5")
    wishes = [person.wish(f"wish {n}", (IMAGE, FOUR_IMAGES)[n % 2]) for n in range(_WISHES)]
    with killer(world, seed, database=database) as kills:
        asked = at_once(_WISHES, lambda n: _ask(person, wishes[n], f"{seed}-{n}"))
        time.sleep(_LONGER)
    _sweep_until_final(world, asked)

    assert kills["functions"]
    assert len(set(asked)) == _WISHES
    with psycopg.connect(world.stack.admin_database_url) as admin:
        assert admin.execute("select * from ledger.audit()").fetchall() == []
        rows = admin.execute(
            "select g.id::text, g.status, g.charged_credits = g.cost_credits, r.settled_at is not null,"
            " (select count(*) from storage.objects o where split_part(o.name, '/', 2) = g.id::text),"
            " jsonb_array_length(g.outputs) from public.generations g"
            " join public.credit_reservations r on r.id = g.reservation_id where g.user_id = %s",
            (person.id,),
        ).fetchall()
    assert {row[0] for row in rows} == set(asked)
    for name, status, is_charged, is_settled, stored, outputs in rows:
        assert (status, is_charged, is_settled) == ("succeeded", True, True), name
        assert stored == outputs
        assert world.stack.babysea.submissions[name] == 1
