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
  insert into credit_reversals (reversal_key, grant_id, reversed_total)
    select 'rev:' || id, id, 0 from credit_grants;
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
  insert into purchases (user_id, kind, item_id, credits, amount_minor, currency)
    select gen_random_uuid(), 'pack', 'p', 1, 1, 'usd' from generate_series(1, {ROWS}) n;
  insert into assets (user_id, path, content_type, bytes)
    select gen_random_uuid(), n::text, 'image/png', 1 from generate_series(1, {ROWS}) n;
  update backend.stripe_events set outcome = 'parked', parked_at = now() where id::int % 100 = 0;
  insert into backend.customers (user_id, stripe_customer_id, forgotten)
    select gen_random_uuid(), 'cus_' || n, case when n % 100 = 0 then array['old_' || n] else '{{}}' end
      from generate_series(1, {ROWS}) n;
  insert into backend.prices (id, lookup_key, active, deleted, currency, amount_minor, interval, kind, item_id,
                              credits, months, ticket)
    select 'price_' || n, 'key_' || n, n < 10, false, 'usd', 2900, 'month', 'plan', 'pro', 30, 1, n
      from generate_series(1, {ROWS}) n;
  insert into backend.products (id, active, deleted, ticket)
    select 'prod_' || n, true, false, n from generate_series(1, {ROWS}) n;
  insert into subscriptions (id, user_id, plan_id, price_id, interval, status, cancel_at_period_end, ticket, created_at)
    select 'sub_' || n, gen_random_uuid(), 'pro', 'price_1', 'month', 'active', false, n, now()
      from generate_series(1, {ROWS}) n;
  insert into plan_periods (source_key, user_id, subscription_id, plan_id, price_id, invoice_id, credits, months,
                            granted_months, next_month_at, amount_minor, starts_at, ends_at, paid_at, grace_days,
                            priority)
    select 'in:in_' || n || ':il', gen_random_uuid(), 'sub_' || n, 'pro', 'price_1', 'in_' || n, 30, 12, 1,
           case when n % 100 = 0 then now() + n * interval '1 min' end, 2900, now(), now() + interval '1 year',
           now(), 3, 50
      from generate_series(1, {ROWS}) n;
  insert into backend.prorations (source_key, subscription_id, price_id, invoice_id, amount_minor, starts_at, ends_at)
    select 'in:in_' || n || ':p', 'sub_' || n, 'price_1', 'in_' || n, 100, now(), now() + interval '1 day'
      from generate_series(1, {ROWS}) n;
  insert into backend.payments (payment_intent_id, invoice_id, user_id, amount_minor, currency)
    select 'pi_in_' || n, 'in_' || n, gen_random_uuid(), 2900, 'usd' from generate_series(1, {ROWS}) n;
  insert into payment_reversals (id, kind, payment_intent_id, user_id, amount_minor, currency, status, counts, ticket)
    select 're_' || n, 'refund', case when n % 100 = 0 then 'pi_' || n else 'pi_in_' || n end,
           case when n % 100 > 0 then gen_random_uuid() end, 100, 'usd', 'succeeded', true, n
      from generate_series(1, {ROWS}) n;
"""


@pytest.fixture(name="large", scope="module")
def _large(request: pytest.FixtureRequest) -> Iterator[TestDatabase]:
    """Return a database whose tables are large enough that a missing index is noticed."""
    with request.getfixturevalue("templates").copy() as database:
        admin = database.connection("supabase_admin")
        admin.execute(_FURNISH)
        admin.execute("vacuum analyze")
        yield database


@pytest.fixture(name="idle", scope="module")
def _idle(request: pytest.FixtureRequest) -> Iterator[TestDatabase]:
    """Return a database with many dispatches of which none is unfinished: an index of those seems to cost nothing."""
    with request.getfixturevalue("templates").copy() as database:
        admin = database.connection("supabase_admin")
        admin.execute(f"""
            set session_replication_role = replica;
            insert into backend.dispatches
                (generation_id, request, price, provider_generation_id, finished_at)
              select gen_random_uuid(), '', '{{}}', n::text, now() from generate_series(1, {ROWS}) n;
            insert into generations
                (id, user_id, kind, model, prompt, idempotency_key, request_hash, reservation_id, cost_credits,
                 output_count)
              select '{USER}', '{USER}', 'image', 'm', 'p', 'k', 'h', '{USER}', 1, 1;
            insert into backend.dispatches (generation_id, request, price, provider_generation_id, finished_at)
              values ('{USER}', '', '{{}}', 'p', now())
        """)
        admin.execute("vacuum analyze")
        yield database


CALLS = {
    "expire_due": "select ledger.expire_due(100)",
    "grant": f"select ledger.grant('{USER}', 'pack', 'cs:new', 10)",
    "reserve": f"select ledger.reserve('{USER}', gen_random_uuid(), 1)",
    "settle": "select ledger.settle(gen_random_uuid(), 1)",
    "reverse": "select ledger.reverse('cs:1', 're:1', 5)",
    "audit of one user": f"select count(*) from ledger.audit('{USER}')",
    "create_purchase": f"select backend.create_purchase('{USER}', 'pack', 'p', null, 1, 1, 'usd', 9)",
    "checkout event": (
        "select backend.record_checkout(jsonb_build_object('id', 'e1', 'type', 't', 'created', 1),"
        " (select jsonb_build_object('id', 'cs_1', 'mode', 'payment', 'state', 'paid', 'purchase_id', id,"
        " 'user_id', user_id, 'amount_minor', 1, 'currency', 'usd', 'payment_intent_id', 'pi_1',"
        " 'customer_id', 'cus_new') from purchases limit 1))"
    ),
    "get_checkout": f"select backend.get_checkout('{USER}', 's')",
    "record_invoice": """select backend.record_invoice('{"id": "e1", "type": "t", "created": 1}',
        '{"id": "in_1", "customer_id": "cus_1", "subscription_id": "sub_1", "currency": "usd", "paid_at": 1, "lines":
          [{"id": "new", "price_id": "price_1", "amount_minor": 2900, "period_start": 1, "period_end": 9},
           {"id": "less", "price_id": "price_1", "amount_minor": -29, "period_start": 1, "period_end": 9,
            "proration": true}],
          "payments": [{"payment_intent_id": "pi_1", "amount_minor": 2900}]}')""",
    "record_invoice_payment": "select backend.record_invoice_payment(null, 'in_7', 'pi_7', 1, 'usd')",
    "record_reversal": """select backend.record_reversal(null, 1, '{"id": "re_new", "kind": "refund",
        "payment_intent_id": "pi_in_1", "amount_minor": 1, "currency": "usd", "status": "succeeded"}')""",
    "record_subscription": """select backend.record_subscription(null, 99999, '{"id": "sub_1", "customer_id": "cus_1",
        "price_id": "price_1", "status": "active"}')""",
    "record_price": """select backend.record_price(null, 99999, '{"id": "price_5", "kind": "plan", "item_id": "x",
        "credits": 1, "months": 1, "interval": "month"}')""",
    "forget_customer": "select backend.forget_customer('cus_1', null)",
    "find_price": "select backend.find_price('key_5')",
    "claim_parked": "select count(*) from backend.claim_parked(10, 60)",
    "unmatched_reversals": "select count(*) from backend.unmatched_reversals(10)",
    "list_unfinished": "select count(*) from backend.list_unfinished(10, 86400)",
    "postpone": "select backend.postpone((select generation_id from backend.dispatches limit 1), 9)",
    "drip_due": "select backend.drip_due(10)",
    "create_generation": (
        f"select backend.create_generation('{USER}', 'k', 'h', 'image', 'm', 'p', '{{}}', '', '{{}}', 0, 1, 9, 99999,"
        " 9999, null)"
    ),
    "find_generation": f"select backend.find_generation('{USER}', 'k')",
    "mark_submitted": "select backend.mark_submitted((select id from generations limit 1), 'x')",
    "record_callback": """select backend.record_callback('d', 'e', '1', '{"status": "failed"}')""",
    "request_cancel": f"select backend.request_cancel('{USER}', (select id from generations limit 1))",
    "count_poisoned": "select backend.count_poisoned()",
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
    # the intake has one row
    whole = [line for plan in plans for line in re.findall(r"Seq Scan on (?!intake ).*", plan)]
    assert whole == []


@pytest.mark.parametrize(
    ("call", "index"),
    [
        ("claim_stuck", "dispatches_unfinished"),
        ("claim_parked", "stripe_events_parked"),
        ("drip_due", "plan_periods_due"),
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
    ("call", "key"), [("settle", "credit_reservations_pkey"), ("postpone", "dispatches_pkey")]
)
def test_one_row_is_found_by_its_id(large: TestDatabase, call: str, key: str) -> None:
    """Who has an id goes by it; the smaller index of what is open may be full of dead rows."""
    plan = next(each for each in _plans(large, CALLS[call]) if "Update on" in each)

    assert key in plan, plan


@pytest.mark.parametrize(
    "call",
    [
        "postpone({}, 60)",
        "mark_unsent({}, 60, 'busy')",
        "begin_dispatch({})",
        "request_stop({}, 'operator')",
        "end_settlement({}, 'owner', 'error', true)",
        "retry_generation({})",
    ],
)
def test_a_dispatch_is_found_by_its_id(idle: TestDatabase, call: str) -> None:
    """No step of a generation walks an index of unfinished ones: it looks small, and may be full of dead rows."""
    plans = _plans(idle, "select backend." + call.format(f"'{USER}'"))

    scans = [scan for plan in plans for scan in re.findall(r"Scan using (dispatches\w*)", plan)]
    assert set(scans) == {"dispatches_pkey"}


@pytest.mark.parametrize(
    "table",
    ["credit_grants", "credit_reservations", "credit_ledger", "generations", "generation_events",
     "purchases", "assets", "subscriptions", "plan_periods", "payment_reversals"],
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
