"""The explorer itself: it must find what is wrong with functions that are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.conftest import Templates
from tests.database import TestDatabase
from tests.interleavings import pauses
from tests.interleavings.explorer import Explorer
from tests.interleavings.scenarios import CALLS
from tests.interleavings.schedules import Call, Scenario, UnexplainedError

SETUP = (
    "ledger.grant(%(user)s, 'pack', %(g1)s, 20)",
    "ledger.reserve(%(user)s, %(r1)s, 12)",
)


class Defect(NamedTuple):
    """A function made wrong by replacing some of its text, and two calls that suffer from it."""

    function: str
    right: str
    wrong: str
    calls: tuple[str, str]
    found: str
    before: tuple[str, ...] = ()


DEFECTS = {
    "read, then write": Defect(
        "ledger.reserve(uuid, uuid, numeric)",
        """\
        update public.credit_balances set available = available - p_amount
         where user_id = p_user and available >= p_amount and next_expiry_at > ledger.clock()
         returning available into v_available;
        """,
        """\
        select available - p_amount into v_available from public.credit_balances
         where user_id = p_user and available >= p_amount and next_expiry_at > ledger.clock();
        if found then
          update public.credit_balances set available = v_available where user_id = p_user;
        end if;
        """,
        (CALLS["reserve"], "ledger.reserve(%(user)s, %(new2)s, 1)"),
        "the audit finds",
    ),
    "no guard on settling": Defect(
        "ledger.settle(uuid, numeric)",
        "where id = p_reservation and settled_at is null and amount >= p_charge",
        "where id = p_reservation and amount >= p_charge"
        " and exists (select from public.credit_reservations where id = p_reservation and settled_at is null)",
        (CALLS["refund"], CALLS["refund"]),
        "23505",
    ),
    "debt read without a lock": Defect(
        "ledger.grant(uuid, text, text, numeric, timestamptz, integer, text)",
        "select * into v_balance from public.credit_balances where user_id = p_user for update;",
        "select * into v_balance from public.credit_balances where user_id = p_user;",
        (CALLS["grant"], "ledger.grant(%(user)s, 'pack', %(key2)s, 7)"),
        "23514",
        ("ledger.reverse(%(g1)s, %(x0)s, 20)",),
    ),
    "old news under a lock": Defect(
        "ledger.reverse(text, text, numeric)",
        "select * into g from public.credit_grants where id = g.id;",
        "null;",
        (
            "ledger.reverse(%(g1)s, %(x1)s, 1)",
            "ledger.reverse(%(g1)s, %(x2)s, 2)",
        ),
        "the audit finds",
    ),
    "locks the other way round": Defect(
        "ledger.settle(uuid, numeric)",
        "update public.credit_reservations set charged",
        "perform from public.credit_balances b join public.credit_reservations o using (user_id)\n"
        "    where o.id = p_reservation and o.amount = p_charge for update of b;\n"
        "  update public.credit_reservations set charged",
        (CALLS["charge"], CALLS["part"]),
        "40P01",
    ),
}


@pytest.fixture(name="broken")
def _broken(templates: Templates) -> Iterator[TestDatabase]:
    with templates.copy() as database:
        yield database


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS.keys())
def test_defect_is_found(broken: TestDatabase, defect: Defect) -> None:
    """A function that is right when calls come one after another, and wrong otherwise, is caught, and caught again."""
    admin = broken.connection("supabase_admin")
    definition = broken.value("select pg_get_functiondef(%s::regprocedure)", defect.function)
    right, wrong, text = (_flat(each) for each in (defect.right, defect.wrong, definition))
    assert text.count(right) == 1, "the function has changed: change the defect with it"
    admin.execute(text.replace(right, wrong).encode())
    pauses.install(broken)
    scenario = Scenario("broken", SETUP + defect.before, tuple(Call(sql) for sql in defect.calls))

    with Explorer(broken, 2) as explorer:
        with pytest.raises(UnexplainedError) as caught:
            explorer.explore(scenario, 1)
        with pytest.raises(UnexplainedError) as again:
            explorer.replay(scenario, caught.value.schedule)

    assert defect.found in str(caught.value)
    assert defect.found in str(again.value)


def _flat(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().split("\n"))
