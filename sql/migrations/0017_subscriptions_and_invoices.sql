-- migrate:up
-- Plans. A subscription is mirrored and shows the plan; each line of a paid invoice is a plan period, which grants.

create function backend.live_subscription(p_user uuid) returns text
  language sql stable security definer set search_path = ''
as $$
  select id from public.subscriptions
   where user_id = p_user and status not in ('canceled', 'incomplete_expired')
   order by created_at desc, id desc
   limit 1
$$;
comment on function backend.live_subscription(uuid) is 'A user''s newest subscription that has not ended; null without one.';

create function backend.payer(p_customer_id text, p_subscription_id text) returns uuid
  language sql stable security definer set search_path = ''
as $$
  select coalesce(
    backend.user_of_customer(p_customer_id),
    (select user_id from public.purchases where stripe_subscription_id = p_subscription_id),
    (select user_id from public.subscriptions where id = p_subscription_id))
$$;
comment on function backend.payer(text, text) is 'Whose invoice or subscription it is, from our own rows only; null when they do not say.';

create function backend.record_subscription(p_event jsonb, p_ticket bigint, p_subscription jsonb) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  s record;
  v_user uuid;
  v_price backend.prices;
  v_known public.subscriptions;
  v_off_catalog boolean;
begin
  select * into s from jsonb_to_record(p_subscription) as r (
    id text, customer_id text, user_id text, price_id text, status text, current_period_start text,
    current_period_end text, cancel_at_period_end boolean, cancel_at text, canceled_at text, ended_at text,
    created text);
  if not backend.open_gate(p_event) then
    return 'duplicate';
  end if;
  if s.status is null or s.status not in (
    'incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'unpaid', 'paused', 'canceled'
  ) then
    return backend.close_gate(p_event, 'unknown_status');
  end if;
  v_user := backend.payer(s.customer_id, s.id);
  perform backend.lock('subscriptions of', array[v_user::text]);  -- or two at once would not see each other
  select * into v_price from backend.prices where id = s.price_id;
  select * into v_known from public.subscriptions where id = s.id;
  v_off_catalog := v_known.id is not null and v_price.id is not null and v_price.kind is distinct from 'plan';
  if v_off_catalog then
    -- ours, moved by hand to a price of no plan: it keeps its plan here, and must be seen to end
    v_price.kind := 'plan';
    v_price.item_id := v_known.plan_id;
    v_price.interval := v_known.interval;
    s.price_id := v_known.price_id;
  end if;
  if v_price.id is not null and v_price.kind is distinct from 'plan' or v_user is null and s.user_id is null
     and v_price.id is null then
    return backend.close_gate(p_event, 'ignored');
  elsif v_user is null or v_price.id is null then
    return backend.close_gate(p_event, 'parked');
  end if;

  insert into public.subscriptions as o
      (id, user_id, customer_id, plan_id, price_id, interval, status, current_period_start, current_period_end,
       cancel_at_period_end, cancel_at, canceled_at, ended_at, ticket, created_at, updated_at)
    values (s.id, v_user, s.customer_id, v_price.item_id, s.price_id, v_price.interval, s.status,
            backend.at(s.current_period_start), backend.at(s.current_period_end),
            coalesce(s.cancel_at_period_end, false), backend.at(s.cancel_at), backend.at(s.canceled_at),
            backend.at(s.ended_at), p_ticket, coalesce(backend.at(s.created), ledger.clock()), ledger.clock())
    on conflict (id) do update
      set plan_id = excluded.plan_id, price_id = excluded.price_id, interval = excluded.interval,
          status = excluded.status,
          current_period_start = excluded.current_period_start, current_period_end = excluded.current_period_end,
          cancel_at_period_end = excluded.cancel_at_period_end, cancel_at = excluded.cancel_at,
          canceled_at = excluded.canceled_at, ended_at = excluded.ended_at,
          ticket = excluded.ticket, updated_at = excluded.updated_at
      where excluded.ticket > o.ticket
        and (o.status not in ('canceled', 'incomplete_expired') or o.status = excluded.status);
  if not found then
    return backend.close_gate(p_event, 'stale');
  end if;
  return backend.close_gate(p_event, case
    when s.status in ('canceled', 'incomplete_expired') then 'recorded'
    when v_off_catalog then 'off_catalog'
    when exists (
      select from public.subscriptions
       where user_id = v_user and id <> s.id and status not in ('canceled', 'incomplete_expired'))
    then 'recorded_second' else 'recorded' end);
end $$;
comment on function backend.record_subscription(jsonb, bigint, jsonb) is 'Mirrors a subscription as just read: {id, customer_id, user_id, price_id, status, current_period_start, current_period_end, cancel_at_period_end, cancel_at, canceled_at, ended_at, created}. Moves no credits. Outcomes: recorded, recorded_second, off_catalog, stale, parked, ignored, duplicate, unknown_status.';

create function backend.grant_months(p_source_key text) returns integer
  language plpgsql security definer set search_path = ''
as $$
declare
  v_period public.plan_periods;
  v_ends timestamptz;
  v_count integer := 0;
begin
  select * into v_period from public.plan_periods where source_key = p_source_key for update;
  while v_period.granted_months < v_period.months
    and (v_period.granted_months = 0 or v_period.next_month_at <= ledger.clock())
  loop
    v_period.granted_months := v_period.granted_months + 1;
    -- in UTC, as Stripe counts months, whatever the session's time zone
    v_period.next_month_at :=
      (v_period.starts_at at time zone 'UTC' + v_period.granted_months * interval '1 month') at time zone 'UTC';
    v_ends := v_period.ends_at;
    if v_period.granted_months < v_period.months then
      v_ends := v_period.next_month_at;
    else
      v_period.next_month_at := null;
    end if;
    perform ledger.grant(
      v_period.user_id, 'plan', backend.month_key(v_period, v_period.granted_months), v_period.credits,
      -- what is paid late is not lost
      greatest(v_ends, v_period.paid_at, ledger.clock()) + v_period.grace_days * interval '1 day',
      v_period.priority,
      'plan ' || v_period.plan_id || case when v_period.months > 1
        then format(', month %s of %s', v_period.granted_months, v_period.months) else '' end);
    v_count := v_count + 1;
  end loop;
  update public.plan_periods
     set granted_months = v_period.granted_months, next_month_at = v_period.next_month_at
   where source_key = p_source_key;
  return v_count;
end $$;
comment on function backend.grant_months(text) is 'Grants what is due of a period: the first month at once, each other when it begins. Returns how many.';

create function backend.drip_due(p_limit integer) returns integer
  language plpgsql security definer set search_path = ''
as $$
declare
  v_key text;
  v_count integer := 0;
begin
  -- one drip at a time, since it holds many balances; a second has nothing to do
  if not pg_try_advisory_xact_lock(hashtextextended('backend.drip_due', 0)) then
    return 0;
  end if;
  for v_key in
    select source_key from public.plan_periods
     where next_month_at <= ledger.clock()
     order by next_month_at
     limit p_limit
     for update skip locked
  loop
    begin
      v_count := v_count + backend.grant_months(v_key);
      perform backend.reverse_period(v_key);  -- what went back already goes off this month too
    exception
      when data_exception or integrity_constraint_violation or sqlstate 'HF001' or sqlstate 'HF002' then
        raise warning 'period % cannot be granted: %', v_key, sqlerrm;  -- it must not hold up the others
    end;
  end loop;
  return v_count;
end $$;
comment on function backend.drip_due(integer) is 'Grants the months that have begun, of up to so many periods, and returns how many. A period that cannot be granted is passed over with a warning.';

create function backend.count_prorations(p_subscriptions text[]) returns setof text
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_counted jsonb := '{}';
  v_left bigint;
  v_part bigint;
  r record;
  c record;
begin
  for r in
    select * from backend.prorations
     where subscription_id = any (p_subscriptions)
     order by starts_at, source_key
  loop
    v_left := r.amount_minor;
    -- the narrowest first, which was bought last; what is more than it cost falls on the next
    for c in
      select p.source_key, p.amount_minor, coalesce((v_counted ->> p.source_key)::bigint, 0) as counted
        from public.plan_periods p
       where p.subscription_id = r.subscription_id and p.price_id = r.price_id
         and p.starts_at <= r.starts_at and p.ends_at >= r.ends_at
       -- what replaces the credited time (another number of seats) comes last
       order by p.invoice_id = r.invoice_id and p.starts_at = r.starts_at, p.starts_at desc, p.source_key desc
    loop
      v_part := least(v_left, c.amount_minor - c.counted);
      v_counted := v_counted || jsonb_build_object(c.source_key, c.counted + v_part);
      v_left := v_left - v_part;
      exit when v_left = 0;
    end loop;
  end loop;
  return query
    update public.plan_periods p set prorated_minor = coalesce((v_counted ->> p.source_key)::bigint, 0)
     where p.subscription_id = any (p_subscriptions)
       and p.prorated_minor <> coalesce((v_counted ->> p.source_key)::bigint, 0)
    returning p.source_key;
end $$;
comment on function backend.count_prorations(text[]) is 'Counts the credited time of subscriptions on the periods it falls in, from all rows anew, and returns the periods it changed.';

create function backend.record_invoice(p_event jsonb, p_invoice jsonb) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  v_invoice constant text := p_invoice ->> 'id';
  v_user uuid;
  v_subscriptions text[];
  v_paid_at constant timestamptz := coalesce(backend.at(p_invoice ->> 'paid_at'), ledger.clock());
  v_ours boolean;
  v_unknown boolean;
  v_known boolean;
  v_new text[];
  v_credited integer;
  v_key text;
  v_payment record;
begin
  if not backend.open_gate(p_event) then
    return 'duplicate';
  end if;
  v_user := backend.payer(p_invoice ->> 'customer_id', p_invoice ->> 'subscription_id');
  select coalesce(bool_or(kind = 'plan'), false), coalesce(bool_or(price_id is not null and not is_mirrored), false)
    into v_ours, v_unknown from backend.invoice_lines(p_invoice);
  v_unknown := v_unknown and p_invoice ->> 'subscription_id' is not null;
  if v_unknown and (v_user is not null or p_invoice ->> 'user_id' is not null)
     or v_user is null and (v_ours or p_invoice ->> 'user_id' is not null) then
    return backend.close_gate(p_event, 'parked');
  elsif not v_ours then
    return backend.close_gate(p_event, case
      when exists (select from public.subscriptions where id = p_invoice ->> 'subscription_id')
        and exists (select from backend.invoice_lines(p_invoice) where amount_minor > 0)
      then 'off_catalog' else 'ignored' end);
  end if;

  perform backend.lock('payment', array(
    select p ->> 'payment_intent_id' from jsonb_array_elements(p_invoice -> 'payments') p));
  perform backend.lock('invoice', array[v_invoice]);
  v_subscriptions := array(
    select distinct subscription_id from backend.invoice_lines(p_invoice) where subscription_id is not null);
  perform backend.lock('subscription', v_subscriptions);
  perform from public.plan_periods where subscription_id = any (v_subscriptions) order by source_key for update;

  v_known := exists (
    select from backend.invoice_lines(p_invoice) l
     where l.source_key in (select p.source_key from public.plan_periods p where p.source_key = l.source_key)
        or l.source_key in (select n.source_key from backend.prorations n where n.source_key = l.source_key));
  with added as (
    insert into public.plan_periods
        (source_key, user_id, subscription_id, plan_id, price_id, invoice_id, credits, months, amount_minor,
         starts_at, ends_at, paid_at, grace_days, priority, created_at)
      select source_key, v_user, subscription_id, item_id, price_id, v_invoice, credits, months, amount_minor,
             starts_at, ends_at, v_paid_at, grace_days, priority, ledger.clock()
        from backend.invoice_lines(p_invoice)
       where kind = 'plan' and credits > 0
      on conflict (source_key) do nothing
      returning source_key
  )
  select array_agg(source_key order by source_key) into v_new from added;
  insert into backend.prorations
      (source_key, subscription_id, price_id, invoice_id, amount_minor, starts_at, ends_at, created_at)
    select source_key, subscription_id, price_id, v_invoice, -amount_minor, starts_at, ends_at, ledger.clock()
      from backend.invoice_lines(p_invoice)
     where kind = 'plan' and proration and amount_minor < 0
    on conflict (source_key) do nothing;
  get diagnostics v_credited = row_count;

  -- what comes in before what goes back
  for v_key in select unnest(v_new) loop
    perform backend.grant_months(v_key);
  end loop;
  for v_payment in
    select p.payment_intent_id, p.amount_minor from jsonb_to_recordset(p_invoice -> 'payments') as p (
      payment_intent_id text, amount_minor bigint)
     where p.payment_intent_id is not null
  loop
    perform backend.link_payment(
      v_invoice, v_payment.payment_intent_id, v_payment.amount_minor, p_invoice ->> 'currency');
  end loop;
  for v_payment in
    update backend.payments set user_id = v_user where invoice_id = v_invoice and user_id is null
    returning payment_intent_id
  loop
    perform backend.reverse_payment(v_payment.payment_intent_id);  -- linked, and perhaps reversed, before
  end loop;
  for v_key in select backend.count_prorations(v_subscriptions) order by 1 loop
    perform backend.reverse_period(v_key);
  end loop;
  return backend.close_gate(p_event, case
    when v_new is not null then 'granted'
    when v_credited > 0 then 'taken_back'
    when v_known then 'already_granted'
    else 'nothing_to_grant' end);
end $$;
comment on function backend.record_invoice(jsonb, jsonb) is 'Applies a paid invoice, each line once: {id, customer_id, subscription_id, user_id, currency, paid_at, lines: [{id, price_id, amount_minor, discount_minor, quantity, proration, period_start, period_end, subscription_id}], payments: [{payment_intent_id, amount_minor}]}. Outcomes: granted, taken_back, already_granted, nothing_to_grant, off_catalog, parked, ignored, duplicate. HF001.';

create function backend.invoice_lines(p_invoice jsonb)
  returns table (
    source_key text,
    subscription_id text,
    price_id text,
    is_mirrored boolean,
    kind text,
    item_id text,
    credits numeric,
    months integer,
    amount_minor bigint,
    proration boolean,
    starts_at timestamptz,
    ends_at timestamptz,
    grace_days integer,
    priority integer
  )
  language sql stable security definer set search_path = ''
as $$
  select 'in:' || (p_invoice ->> 'id') || ':' || l.id,
         coalesce(l.subscription_id, p_invoice ->> 'subscription_id'),
         l.price_id,
         p.id is not null,
         p.kind,
         p.item_id,
         case
           -- what costs nothing (a trial, a coupon over everything) grants nothing, unless the plan says so
           when l.amount_minor - coalesce(l.discount_minor, 0) <= 0
             and not (coalesce((p.terms ->> 'grants_without_payment')::boolean, false)
                      and l.amount_minor >= 0 and not coalesce(l.proration, false))
             then 0
           -- a part of a period grants its part, at once
           when l.proration then
             coalesce(div(p.credits * p.months * 1000 * l.amount_minor, nullif(p.amount_minor, 0)) / 1000, 0)
           else p.credits * coalesce(l.quantity, 1)
             * case when p.months > 1 and p.terms ->> 'yearly' = 'at_once' then p.months else 1 end
         end,
         case when l.proration or p.terms ->> 'yearly' = 'at_once' then 1 else p.months end,
         l.amount_minor,
         coalesce(l.proration, false),
         backend.at(l.period_start),
         backend.at(l.period_end),
         coalesce((p.terms ->> 'grace_days')::integer, 3),
         coalesce((p.terms ->> 'priority')::integer, 50)
    from jsonb_to_recordset(p_invoice -> 'lines') as l (
           id text, price_id text, amount_minor bigint, discount_minor bigint, quantity bigint, proration boolean,
           period_start text, period_end text, subscription_id text)
    -- a lookup for each line, however many the planner expects
    left join lateral (select * from backend.prices where id = l.price_id limit 1) p on true
$$;
comment on function backend.invoice_lines(jsonb) is 'The lines of an invoice with what each is to grant, by the mirrored terms of its price.';

-- migrate:down
