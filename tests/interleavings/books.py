"""What a schedule leaves in the ledger, in a form that two plays of it can be compared by."""

from __future__ import annotations

import json

# Most of a schedule's time would go into planning the audit, or into reading the books of earlier schedules. The role
# keeps the trigger that refuses this from firing.
CLEAN_UP = """
set session_replication_role = replica;
truncate public.credit_ledger, public.credit_reversals, public.credit_grants, public.credit_reservations,
  public.credit_balances, ledger.seals, ledger.seal_horizon;
reset session_replication_role;
"""
CLEAN_UP_EVERY = 50

# Entries that carry a balance were written under its lock, so their order is part of the books; a full charge and a
# free reservation take no lock, and stand where they happened to fall.
BOOKS = """
with key_of as (select id, source_key from credit_grants where user_id = any(%(users)s))
select jsonb_build_object(
  'balances', (
    select jsonb_agg(jsonb_build_array(user_id, available, owed) order by user_id)
      from credit_balances where user_id = any(%(users)s)),
  'grants', (
    select jsonb_agg(jsonb_build_array(
             source_key, user_id, source, amount, remaining, expired, reversed, absorbed, expires_at)
             order by source_key)
      from credit_grants where user_id = any(%(users)s)),
  'reservations', (
    select jsonb_agg(jsonb_build_array(id, user_id, amount, charged, grant_amounts, (
             select array_agg(source_key order by n)
               from unnest(grant_ids) with ordinality as taken (grant_id, n) join key_of k on k.id = grant_id))
             order by id)
      from credit_reservations r where user_id = any(%(users)s)),
  'reversals', (
    select jsonb_agg(jsonb_build_array(reversal_key, source_key, reversed_total) order by reversal_key)
      from credit_reversals r join key_of k on k.id = r.grant_id),
  'entries', (
    select jsonb_agg(jsonb_build_array(
             user_id, type, available_delta, reserved_delta, owed_delta, available_after, owed_after,
             reservation_id, source_key, key) order by user_id, available_after is null,
                      case when available_after is null then 0 else e.id end, type, reservation_id)
      from credit_ledger e left join key_of k on k.id = e.grant_id where user_id = any(%(users)s))
)::text as books
"""


def difference(serial: str, found: str) -> str:
    """Say what a serial order's books have and those found have not, and the other way round."""
    rows = [
        {f"{table} {row}" for table, rows in json.loads(books).items() for row in rows or ()}
        for books in (serial, found)
    ]
    return f"without {sorted(rows[0] - rows[1])}, but {sorted(rows[1] - rows[0])}"
