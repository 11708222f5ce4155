"""Which index a function uses when tables are large, read from the plans of the statements inside it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.database import TestDatabase

ROWS = 20_000
USER = "11111111-1111-4111-8111-111111111111"

_FURNISH = f"""
  set session_replication_role = replica;
  insert into credit_balances (user_id, available, next_expiry_at)
    select gen_random_uuid(), 5, case when n % 100 = 0 then now() + n * interval '1 s' else 'infinity' end
      from generate_series(1, {ROWS}) n;
  insert into credit_grants (user_id, source, source_key, amount, remaining)
    select gen_random_uuid(), 'pack', 'cs:' || n, 5, n % 2 * 5 from generate_series(1, {ROWS}) n;
  insert into credit_reservations (id, user_id, amount, grant_ids, grant_amounts, charged, settled_at)
    select gen_random_uuid(), gen_random_uuid(), 5, '{{1}}', '{{5}}', 5, now()
      from generate_series(1, {ROWS}) n;
  insert into credit_ledger (user_id, type, reservation_id)
    select gen_random_uuid(), 'reserve', gen_random_uuid() from generate_series(1, {ROWS}) n;
  -- one user has a lot, so that a filter after the index would show
  insert into generations (id, user_id, status, kind, model, prompt, idempotency_key, request_hash,
                           reservation_id, cost_credits, output_count, created_at, finished_at)
    select g, case when n % 4 = 0 then '{USER}' else gen_random_uuid() end, 'succeeded', 'image', 'm', 'p',
           n::text, 'h', g, 1, 1, now() - n * interval '1 min', now()
      from (select n, gen_random_uuid() as g from generate_series(1, {ROWS}) n) s;
  insert into backend.dispatches (generation_id, request, price, moved_at, finished_at)
    select id, '', '{{}}', created_at, case when random() > 0.01 then now() end from generations;
  insert into generation_events (generation_id, user_id, to_status)
    select id, user_id, 'queued' from generations;
  insert into backend.inbox (delivery_id, event, provider_generation_id, payload, outcome)
    select n::text, 'e', n::text, '{{}}', 'applied' from generate_series(1, {ROWS}) n;
  insert into backend.stripe_events (id, type, outcome, created_at)
    select n::text, 't', 'granted', now() from generate_series(1, {ROWS}) n;
  insert into purchases (user_id, pack_id, credits, amount_minor, currency)
    select gen_random_uuid(), 'p', 1, 1, 'usd' from generate_series(1, {ROWS}) n;
  insert into assets (user_id, path, content_type, bytes)
    select gen_random_uuid(), n::text, 'image/png', 1 from generate_series(1, {ROWS}) n;
"""


@pytest.fixture(name="large", scope="module")
def _large(request: pytest.FixtureRequest) -> Iterator[TestDatabase]:
    """Return a database whose tables are large enough that a missing index is noticed."""
    with request.getfixturevalue("templates").copy() as database:
        admin = database.connection("supabase_admin")
        admin.execute(_FURNISH)
        admin.execute("vacuum analyze")
        yield database


CALLS = {
    "expire_due": "select ledger.expire_due(100)",
    "grant": f"select ledger.grant('{USER}', 'pack', 'cs:new', 10)",
    "reserve": f"select ledger.reserve('{USER}', gen_random_uuid(), 1)",
    "settle": "select ledger.settle(gen_random_uuid(), 1)",
    "reverse": "select ledger.reverse('cs:1', 're:1', 5)",
    "audit of one user": f"select count(*) from ledger.audit('{USER}')",
    "create_purchase": f"select backend.create_purchase('{USER}', 'p', 1, 1, 'usd', 9)",
    "checkout event": (
        "select backend.record_checkout_event('e1', 't', now(), 's', (select id from purchases limit 1)::text,"
        f" '{USER}', 'paid', 1, 'usd', 'pi')"
    ),
    "get_checkout": f"select backend.get_checkout('{USER}', 's')",
    "create_generation": (
        f"select backend.create_generation('{USER}', 'k', 'h', 'image', 'm', 'p', '{{}}', '', '{{}}', 0, 1, 9, 99999)"
    ),
    "mark_submitted": "select backend.mark_submitted((select id from generations limit 1), 'x')",
    "record_callback": """select backend.record_callback('d', 'e', '1', '{"status": "failed"}')""",
    "claim_stuck": "select count(*) from backend.claim_stuck(10, 60, 60)",
    "list_generations": f"select count(*) from backend.list_generations('{USER}', null, null, null, null, 20)",
    "list_generations, last page": (
        f"select count(*) from backend.list_generations('{USER}', null, null, now() - interval '13 days', null, 20)"
    ),
    "list_ledger": f"select count(*) from backend.list_ledger('{USER}', null, 20)",
    "get_account": f"select backend.get_account('{USER}')",
    "get_generation": f"select backend.get_generation('{USER}', gen_random_uuid())",
    "create_asset": f"select backend.create_asset('{USER}', 'image/png', 1, 9)",
    "lend_assets": f"select backend.lend_assets('{USER}', array[gen_random_uuid()])",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_table_is_read_whole(large: TestDatabase, call: str) -> None:
    """However large the tables, a call looks up what it needs and reads no table from end to end."""
    plans = _plans(large, call)

    assert plans
    whole = [line for plan in plans for line in re.findall(r"Seq Scan on .*", plan)]
    assert whole == []


@pytest.mark.parametrize(
    ("call", "index"),
    [
        ("claim_stuck", "dispatches_unfinished"),
        ("expire_due", "credit_balances_next_expiry"),
        ("list_generations", "generations_library"),
        ("list_generations, last page", "generations_library"),
    ],
)
def test_index_brings_the_order(large: TestDatabase, call: str, index: str) -> None:
    """Queues and pages are read in index order and stop at their limit: nothing large is sorted."""
    plan = next(each for each in _plans(large, CALLS[call]) if index in each)

    assert "Limit" in plan
    assert not re.search(r"Sort .*rows=\d{4,}", plan)


@pytest.mark.parametrize(
    "table",
    ["credit_grants", "credit_reservations", "credit_ledger", "generations", "generation_events",
     "purchases", "assets"],
)  # fmt: skip
def test_row_level_security_uses_the_index(large: TestDatabase, table: str) -> None:
    """A frontend that reads its own rows does not make the database read everybody's."""
    with large.acting_as("authenticated", USER) as connection:
        plan = connection.execute(f"explain select * from public.{table}".encode()).fetchall()

    text = "\n".join(row["QUERY PLAN"] for row in plan)
    assert "Seq Scan" not in text, text


def _plans(database: TestDatabase, call: str) -> list[str]:
    """Return the plans of the statements a call runs inside, as auto_explain reports them."""
    plans: list[str] = []
    with database.connect("supabase_admin") as admin:
        admin.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
        admin.execute("""
            load 'auto_explain';
            set auto_explain.log_min_duration = 0;
            set auto_explain.log_nested_statements = on;
            set auto_explain.log_level = notice;
        """)
        with admin.transaction(force_rollback=True):
            admin.execute(call.encode())
    # the call itself looks for an id of its own now and then; what is inside is the function's
    return [plan for plan in plans if call not in plan]
