-- migrate:up
-- Money that goes back. Refunds and disputes are rows; what they reverse is counted here, in one place, from all of
-- them at once, and handed to ledger.reverse as a total. So their number and order cannot matter.

create function backend.counts(p_kind text, p_status text, p_counts boolean) returns boolean
  language sql immutable security definer set search_path = ''
as $$
  select case
    when p_kind = 'refund' and p_status in ('pending', 'requires_action', 'succeeded') then true
    when p_kind = 'refund' and p_status in ('failed', 'canceled') then false
    when p_kind = 'dispute' and p_status in (
      'needs_response', 'under_review', 'lost', 'appeal_needs_response', 'appeal_under_review') then true
    when p_kind = 'dispute' and p_status in (
      'warning_needs_response', 'warning_under_review', 'warning_closed', 'won') then false
    when p_kind = 'dispute' and p_status = 'prevented' then p_counts
  end
$$;
comment on function backend.counts(text, text, boolean) is 'Whether money is gone in this state of a refund or dispute; of a prevented one the caller says it, from its balance transactions. Null of a state we do not know.';

create function backend.set_reversed(p_source_key text, p_part numeric, p_whole numeric) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  v_grant record;
  v_target numeric := 0;
  v_count bigint;
begin
  select id, amount, reversed into v_grant from public.credit_grants where source_key = p_source_key;
  if not found then
    return 'noted';
  end if;
  if p_part >= p_whole and p_part > 0 then
    v_target := v_grant.amount;
  elsif p_part > 0 then
    v_target := div(v_grant.amount * 1000 * p_part, p_whole) / 1000;  -- rounded down, and exactly so
  end if;
  if v_target = v_grant.reversed then
    return 'unchanged';
  end if;
  -- one key for each total that was ever set: the caller's lock keeps two from counting alike
  select count(*) into v_count from public.credit_reversals where grant_id = v_grant.id;
  return ledger.reverse(p_source_key, format('rev:%s:%s', p_source_key, v_count + 1), v_target);
end $$;
comment on function backend.set_reversed(text, numeric, numeric) is 'Reverses a share of a grant. Outcomes: clawed_back, restored, unchanged, noted.';

create function backend.reverse_period(p_source_key text) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  v_period public.plan_periods;
  v_reversed numeric;
  v_charged numeric;
  v_prorated numeric;
  v_outcome text := 'unchanged';
  v_change text;
begin
  select * into v_period from public.plan_periods where source_key = p_source_key for update;
  select coalesce(sum(reversed_minor), 0), coalesce(sum(amount_minor), 0) into v_reversed, v_charged
    from backend.payments where invoice_id = v_period.invoice_id;
  v_charged := greatest(v_charged, 1);
  v_prorated := least(v_period.prorated_minor, v_period.amount_minor);
  v_period.amount_minor := greatest(v_period.amount_minor, 1);
  for v_month in 1 .. v_period.granted_months loop
    v_change := backend.set_reversed(
      backend.month_key(v_period, v_month),
      v_reversed * v_period.amount_minor + v_prorated * v_charged,
      v_charged * v_period.amount_minor);
    if v_change <> 'unchanged' then
      v_outcome := v_change;
    end if;
  end loop;
  return v_outcome;
end $$;
comment on function backend.reverse_period(text) is 'Reverses what is due of a period''s grants: the share of its invoice''s payments that went back and the share later invoices credited. Outcomes: clawed_back, restored, unchanged.';

create function backend.month_key(p_period public.plan_periods, p_month integer) returns text
  language sql immutable security definer set search_path = ''
as $$ select p_period.source_key || case when p_period.months > 1 then ':m' || p_month else '' end $$;
comment on function backend.month_key(public.plan_periods, integer) is 'The key of one of a period''s grants.';

create function backend.reverse_payment(p_payment_intent text) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  v_payment backend.payments;
  v_session text;
  v_key text;
  v_outcome text := 'noted';
begin
  update backend.payments p
     set reversed_minor = least(p.amount_minor, coalesce((
           select sum(r.amount_minor) from public.payment_reversals r
            where r.payment_intent_id = p.payment_intent_id and r.counts and r.currency = p.currency), 0))
   where p.payment_intent_id = p_payment_intent
   returning * into v_payment;
  if not found then
    return v_outcome;
  end if;
  update public.payment_reversals set user_id = v_payment.user_id
   where payment_intent_id = p_payment_intent and user_id is distinct from v_payment.user_id;
  if v_payment.purchase_id is not null then
    select stripe_session_id into v_session from public.purchases where id = v_payment.purchase_id;
    return backend.set_reversed('cs:' || v_session, v_payment.reversed_minor, v_payment.amount_minor);
  end if;
  -- all of them first: no period is waited for once a balance is held
  perform from public.plan_periods where invoice_id = v_payment.invoice_id order by source_key for update;
  for v_key in
    select source_key from public.plan_periods where invoice_id = v_payment.invoice_id order by source_key
  loop
    v_outcome := case v_outcome when 'noted' then 'unchanged' else v_outcome end;
    v_outcome := coalesce(nullif(backend.reverse_period(v_key), 'unchanged'), v_outcome);
  end loop;
  return v_outcome;
end $$;
comment on function backend.reverse_payment(text) is 'Counts a payment''s reversals and applies them to what it paid; the caller holds the payment and its invoice. Outcomes: clawed_back, restored, unchanged, noted.';

create function backend.record_reversal(p_event jsonb, p_ticket bigint, p_reversal jsonb) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  n record;
  v_counts boolean;
  v_payment backend.payments;
  v_outcome text;
begin
  select * into n from jsonb_to_record(p_reversal) as r (
    id text, kind text, payment_intent_id text, amount_minor bigint, currency text, status text, counts boolean);
  if not coalesce(n.amount_minor between 0 and 100000000000000, false) then
    raise exception 'not an amount to take back' using errcode = 'HF001';
  end if;
  if not backend.open_gate(p_event) then
    return 'duplicate';
  end if;
  v_counts := backend.counts(n.kind, n.status, n.counts);
  if v_counts is null then
    -- guessing either way would move money: what was known stays, and somebody looks
    return backend.close_gate(p_event, 'unknown_status');
  elsif n.payment_intent_id is null then
    return backend.close_gate(p_event, 'ignored');
  end if;

  perform backend.lock('payment', array[n.payment_intent_id]);
  select * into v_payment from backend.payments where payment_intent_id = n.payment_intent_id;
  perform backend.lock('invoice', array[v_payment.invoice_id]);
  insert into public.payment_reversals as r
      (id, kind, payment_intent_id, user_id, amount_minor, currency, status, counts, ticket, created_at, updated_at)
    values (n.id, n.kind, n.payment_intent_id, v_payment.user_id, n.amount_minor, n.currency, n.status, v_counts,
            p_ticket, ledger.clock(), ledger.clock())
    on conflict (id) do update
      set amount_minor = excluded.amount_minor, currency = excluded.currency, status = excluded.status,
          counts = excluded.counts, ticket = excluded.ticket, updated_at = excluded.updated_at
      where excluded.ticket > r.ticket and excluded.payment_intent_id = r.payment_intent_id;
  if not found then
    return backend.close_gate(p_event, 'stale');
  end if;
  v_outcome := backend.reverse_payment(n.payment_intent_id);
  if v_counts and n.currency is distinct from v_payment.currency and v_payment.currency is not null then
    v_outcome := 'currency_mismatch';
  end if;
  return backend.close_gate(p_event, v_outcome);
end $$;
comment on function backend.record_reversal(jsonb, bigint, jsonb) is 'Records a refund or dispute as just read, and moves the credits of its payment: {id, kind, payment_intent_id, amount_minor, currency, status, counts}. Outcomes: clawed_back, restored, unchanged, noted, stale, duplicate, ignored, unknown_status, currency_mismatch. HF001.';

create function backend.record_invoice_payment(
  p_event jsonb, p_invoice_id text, p_payment_intent_id text, p_amount_minor bigint, p_currency text
) returns text
  language plpgsql security definer set search_path = ''
as $$
begin
  if not backend.open_gate(p_event) then
    return 'duplicate';
  end if;
  perform backend.lock('payment', array[p_payment_intent_id]);
  perform backend.lock('invoice', array[p_invoice_id]);
  return backend.close_gate(p_event, case
    when backend.link_payment(p_invoice_id, p_payment_intent_id, p_amount_minor, p_currency)
    then 'linked' else 'duplicate' end);
end $$;
comment on function backend.record_invoice_payment(jsonb, text, text, bigint, text) is 'Notes what a payment paid, also before its invoice is known, and applies what went back of it. Outcomes: linked, duplicate. HF001.';

create function backend.link_payment(
  p_invoice_id text, p_payment_intent_id text, p_amount_minor bigint, p_currency text
) returns boolean
  language plpgsql security definer set search_path = ''
as $$
begin
  if not coalesce(p_amount_minor between 0 and 100000000000000, false) then
    raise exception 'not an amount that was paid' using errcode = 'HF001';
  end if;
  insert into backend.payments (payment_intent_id, invoice_id, user_id, amount_minor, currency, created_at)
    values (p_payment_intent_id, p_invoice_id,
            (select user_id from public.plan_periods where invoice_id = p_invoice_id limit 1),
            p_amount_minor, p_currency, ledger.clock())
    on conflict (payment_intent_id) do nothing;
  if not found then
    return false;
  end if;
  perform backend.reverse_payment(p_payment_intent_id);
  return true;
end $$;
comment on function backend.link_payment(text, text, bigint, text) is 'Notes that a payment paid an invoice; the caller holds both. False when it is known what it paid.';

create function backend.unmatched_reversals(p_limit integer, p_idle_seconds integer default 900)
  returns table (id text, payment_intent_id text)
  language sql volatile security definer set search_path = ''
as $$
  update public.payment_reversals u set looked_for_at = ledger.clock()
   where u.id in (
     select r.id from public.payment_reversals r
      where r.user_id is null
        and r.created_at > ledger.clock() - interval '30 days'
        and (r.looked_for_at is null or r.looked_for_at <= ledger.clock() - p_idle_seconds * interval '1 second')
        -- not `not exists`: this form is a lookup for each, and stops at the limit
        and (select p.created_at from backend.payments p where p.payment_intent_id = r.payment_intent_id) is null
      order by r.looked_for_at nulls first
      limit p_limit
      for update skip locked)
  returning u.id, u.payment_intent_id
$$;
comment on function backend.unmatched_reversals(integer, integer) is 'Refunds and disputes of the last 30 days whose payment is not known, those not looked for the longest first: to be asked of Stripe.';

-- migrate:down
