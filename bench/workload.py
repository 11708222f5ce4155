"""
The statements of the bench: how accounts are filled, what pgbench runs, how history piles up, what must hold after.

Ids are hashes, as random as the product's UUIDs, so that no design profits from neighbouring keys.
"""

from __future__ import annotations

from typing import LiteralString

STUCK = 20
"""Open reservations that the search has to find behind the settled ones."""


def _script(first: LiteralString, second: LiteralString) -> str:
    head = "\\set n :n + 1\n\\set account random(1, :accounts)\n"
    body = f"{first};\n{second};\n"
    body = body.replace("USER", "md5('account-' || :account)::uuid")
    return head + body.replace("JOB", "md5(:run || '-' || :client_id || '-' || :n)::uuid")


# the floor: the least that moves credits and notes it, found by primary key, with no rule at all
_MOVE: LiteralString = """
with moved as (
  update floor.balances set balance = balance - 1.250 where user_id = USER returning user_id
)
insert into floor.entries (user_id, amount, job_id) select user_id, -1.250, JOB from moved
"""

SCRIPTS = {
    "ours": _script(
        "select ledger.reserve(USER, JOB, 1.250)",
        "select ledger.settle(JOB, 1.250)",
    ),
    "usual": _script(
        "select usual.reserve(USER, JOB, 1.250, JOB::text)",
        "select usual.charge(USER, JOB, 1.250)",
    ),
    "tuned": _script(
        "select tuned.reserve(USER, JOB, 1.250)",
        "select tuned.charge(USER, JOB, 1.250)",
    ),
    "floor": _script(_MOVE, _MOVE),
}
"""What pgbench repeats, by design: a reserve and a charge, two statements and so two commits."""

_ACCOUNTS: LiteralString = """
  from generate_series(1, %(accounts)s::int) i,
       lateral (select md5('account-' || i)::uuid as id) account
"""

SEEDS: dict[str, tuple[LiteralString, ...]] = {
    # as in the product: a plan's credits that expire, which are spent first, and a pack
    "ours": (
        "select ledger.grant(id, 'pack', 'pack:' || i, 100000000)" + _ACCOUNTS,
        "select ledger.grant(id, 'plan', 'plan:' || i, 100000000, now() + interval '30 days')"
        + _ACCOUNTS,
    ),
    "usual": (
        "select usual.add(id, 'pack:' || i, 100000000)" + _ACCOUNTS,
        "select usual.add(id, 'plan:' || i, 100000000)" + _ACCOUNTS,
    ),
    "tuned": (
        "select tuned.add(id, 'pack:' || i, 100000000)" + _ACCOUNTS,
        "select tuned.add(id, 'plan:' || i, 100000000)" + _ACCOUNTS,
    ),
    "floor": ("insert into floor.balances select id, 200000000" + _ACCOUNTS,),
}

_STUCK: LiteralString = "select md5('stuck-' || i)::uuid as id from generate_series(1, %(stuck)s) i"

STUCK_RESERVATIONS: dict[str, tuple[LiteralString, ...]] = {
    "ours": (
        f"select ledger.reserve(md5('account-1')::uuid, id, 1.250) from ({_STUCK}) stuck",
        "update public.credit_reservations set reserved_at = now() - interval '10 minutes'",
    ),
    "usual": (
        f"select usual.reserve(md5('account-1')::uuid, id, 1.250, id::text) from ({_STUCK}) stuck",
        "update usual.entries set created_at = now() - interval '10 minutes' where type = 'reserve'",
    ),
    "tuned": (
        f"select tuned.reserve(md5('account-1')::uuid, id, 1.250) from ({_STUCK}) stuck",
        "update tuned.entries set created_at = now() - interval '10 minutes' where type = 'reserve'",
    ),
}

# settled reservations in the order of time, the same in both designs, put in by bulk
_PAST: LiteralString = """
  from generate_series(%(after)s::int + 1, %(upto)s::int) i,
       lateral (
         select md5('account-' || i %% %(accounts)s + 1)::uuid as user_id,
                md5('past-' || i)::uuid as id,
                now() - interval '1 hour' - interval '8 seconds' * (1000000 - i) as at
       ) past
"""

HISTORY: dict[str, tuple[LiteralString, ...]] = {
    "ours": (
        """insert into public.credit_reservations
             (id, user_id, amount, grant_ids, grant_amounts, charged, reserved_at, settled_at)
           select id, user_id, 1.250, '{1}', '{1.250}', 1.250, at, at + interval '40 seconds'"""
        + _PAST,
        """insert into public.credit_ledger
             (user_id, type, available_delta, reserved_delta, available_after, owed_after,
              reservation_id, created_at)
           select user_id, 'reserve', -1.250, 1.250, 1000, 0, id, at"""
        + _PAST,
        """insert into public.credit_ledger (user_id, type, reserved_delta, reservation_id, created_at)
           select user_id, 'charge', -1.250, id, at + interval '40 seconds'"""
        + _PAST,
    ),
    "usual": (
        "set session_replication_role = replica",  # the rows are right: spare the foreign key
        """insert into usual.entries
             (user_id, type, amount, balance_after, job_id, idempotency_key, created_at)
           select user_id, 'reserve', 1.250, 1000, id, id::text, at"""
        + _PAST,
        """insert into usual.entries (user_id, type, amount, balance_after, job_id, created_at)
           select user_id, 'charge', 1.250, 1000, id, at + interval '40 seconds'"""
        + _PAST,
    ),
    "tuned": (
        """insert into tuned.entries (user_id, type, amount, balance_after, job_id, created_at)
           select user_id, 'reserve', 1.250, 1000, id, at"""
        + _PAST,
        """insert into tuned.entries (user_id, type, amount, balance_after, job_id, created_at)
           select user_id, 'charge', 1.250, 1000, id, at + interval '40 seconds'"""
        + _PAST,
    ),
}

SEARCHES: dict[str, LiteralString] = {
    "ours": """
        select id, user_id, amount, reserved_at from public.credit_reservations
         where charged is null and reserved_at < now() - interval '2 minutes'
         order by reserved_at limit 100""",
    "usual": "select * from usual.find_stuck(interval '2 minutes', 100)",
    "tuned": "select * from tuned.find_stuck(interval '2 minutes', 100)",
}


def _peer_checks(design: LiteralString) -> tuple[tuple[str, str, LiteralString], ...]:
    """Return what must hold of a design that has a table of balances and one of entries."""
    return (
        (
            f"{design}: every pair pgbench was told of is charged once",
            design,
            f"""select count(*) = %(pairs)s, count(*) || ' charges for %(pairs)s pairs'
                  from {design}.entries where type = 'charge'""",
        ),
        (
            f"{design}: the sum of balances is what was granted less what was charged",
            design,
            f"""select sum(balance) = 200000000 * %(accounts)s::numeric - 1.250 * %(pairs)s,
                       sum(balance) || ', granted ' || 200000000 * %(accounts)s::numeric
                  from {design}.balances""",
        ),
    )


CHECKS: tuple[tuple[str, str, LiteralString], ...] = (
    (
        "ours: every pair pgbench was told of is charged once, and nothing else",
        "ours",
        """select count(*) = %(pairs)s and count(*) filter (where charged = amount) = %(pairs)s,
                  count(*) || ' reservations for %(pairs)s pairs'
             from public.credit_reservations""",
    ),
    (
        "ours: the sum of balances is what was granted less what was charged",
        "ours",
        """select sum(available) = 200000000 * %(accounts)s::numeric - 1.250 * %(pairs)s,
                  sum(available) || ', granted ' || 200000000 * %(accounts)s::numeric
             from public.credit_balances""",
    ),
    (
        "ours: ledger.audit()",
        "ours",
        "select count(*) = 0, count(*) || ' violations' from ledger.audit()",
    ),
    *_peer_checks("usual"),
    *_peer_checks("tuned"),
)
"""Name, database, and a statement that says whether it holds and what was found."""
