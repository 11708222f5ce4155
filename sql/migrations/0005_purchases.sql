-- migrate:up
-- Money in. A purchase is written before the payment session exists; what is granted is what the purchase says.

create table public.purchases (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  kind text not null constraint kind_is_known check (kind in ('pack', 'plan')),
  item_id text not null,
  interval text constraint interval_is_known check (interval in ('month', 'year')),
  credits numeric(14, 3) not null constraint credits_are_positive check (credits > 0),
  amount_minor bigint not null constraint amount_is_positive check (amount_minor > 0),
  currency text not null constraint currency_is_iso check (currency ~ '^[a-z]{3}$'),
  priority smallint not null default 100,
  expires_days integer constraint expires_days_are_positive check (expires_days > 0),
  status text not null default 'created' constraint status_is_known
    check (status in ('created', 'open', 'pending', 'paid', 'failed', 'expired')),
  stripe_session_id text unique,
  stripe_payment_intent_id text unique,
  stripe_subscription_id text unique,
  created_at timestamptz not null default now(),
  paid_at timestamptz,
  constraint plans_have_an_interval check ((kind = 'plan') = (interval is not null))
);
create index purchases_user on public.purchases (user_id, created_at desc);
comment on table public.purchases is 'What a user set out to buy, and what became of it. The only source of what the payment of a pack grants.';
comment on column public.purchases.id is 'Travels through Stripe as client_reference_id.';
comment on column public.purchases.item_id is 'The pack or the plan, as the catalogue names it.';
comment on column public.purchases.credits is 'Of a pack: what its payment grants. Of a plan: the credits of a month, for show; its invoices grant.';
comment on column public.purchases.amount_minor is 'Price in the currency''s minor unit (cents).';
comment on column public.purchases.expires_days is 'How long the credits of a pack live from their payment; null: for ever.';
comment on column public.purchases.status is 'created: no session yet; open: at the payment page; pending: a delayed method is on its way; paid: credits granted, or subscribed; failed, expired: nothing granted.';

create table backend.stripe_events (
  id text primary key,
  type text not null,
  object_id text,
  outcome text not null,
  created_at timestamptz not null,
  received_at timestamptz not null default now(),
  parked_at timestamptz,
  attempts integer not null default 1,
  leased_until timestamptz
);
create index stripe_events_parked on backend.stripe_events (leased_until nulls first, parked_at)
  where outcome = 'parked';
create index stripe_events_age on backend.stripe_events (received_at);
comment on table backend.stripe_events is 'The gate: Stripe events that took effect or were refused for good, written in the transaction of their effect. Those whose purchase, user or price is not known yet wait as parked.';
comment on column backend.stripe_events.parked_at is 'When it was parked first; kept when it takes effect later.';
comment on column backend.stripe_events.leased_until is 'Until then one sweep has a parked event in hand.';

create function backend.create_purchase(
  p_user uuid,
  p_kind text,
  p_item_id text,
  p_interval text,
  p_credits numeric,
  p_amount_minor bigint,
  p_currency text,
  p_per_hour integer,
  p_priority integer default 100,
  p_expires_days integer default null,
  out outcome text,
  out purchase_id uuid,
  out is_first_plan boolean,
  out retry_after_seconds integer
)
  language plpgsql security definer set search_path = ''
as $$
declare
  v_oldest timestamptz;
  v_count integer;
begin
  if p_credits = 0 or not ledger.is_amount(p_credits) then
    raise exception 'not an amount to sell' using errcode = 'HF001';  -- it would not be one to grant either
  end if;
  -- one user's purchases in turn, or two parallel ones would both pass the count
  perform pg_advisory_xact_lock(hashtextextended('purchase:' || p_user::text, 0));
  if p_kind = 'plan' and backend.live_subscription(p_user) is not null then
    outcome := 'already_subscribed';  -- changing a plan is the portal's business: a checkout would add a second one
    return;
  end if;
  select count(*), min(created_at) into v_count, v_oldest from public.purchases
   where user_id = p_user and created_at > ledger.clock() - interval '1 hour';
  if v_count >= p_per_hour then
    outcome := 'rate_limited';
    retry_after_seconds := greatest(1, ceil(extract(epoch from v_oldest + interval '1 hour' - ledger.clock())));
    return;
  end if;
  insert into public.purchases
      (user_id, kind, item_id, interval, credits, amount_minor, currency, priority, expires_days, created_at)
    values (p_user, p_kind, p_item_id, p_interval, p_credits, p_amount_minor, p_currency, p_priority, p_expires_days,
            ledger.clock())
    returning id into purchase_id;
  is_first_plan := p_kind = 'plan' and not exists (select from public.subscriptions where user_id = p_user);
  outcome := 'created';
end $$;
comment on function backend.create_purchase(uuid, text, text, text, numeric, bigint, text, integer, integer, integer) is 'Writes a purchase before its payment session is made, and says whether the user never had a plan. Outcomes: created, rate_limited, already_subscribed.';

create function backend.attach_checkout_session(
  p_purchase uuid,
  p_session_id text,
  out outcome text,
  out rival_sessions text[]
)
  language plpgsql security definer set search_path = ''
as $$
declare
  v_purchase public.purchases;
begin
  select * into v_purchase from public.purchases where id = p_purchase;
  -- one user's in turn, or two plans' sessions would not see each other
  perform pg_advisory_xact_lock(hashtextextended('purchase:' || v_purchase.user_id::text, 0));
  update public.purchases
     set stripe_session_id = p_session_id, status = case status when 'created' then 'open' else status end
   where id = p_purchase and coalesce(stripe_session_id, p_session_id) = p_session_id
   returning * into v_purchase;
  if not found then
    outcome := 'not_found';
  elsif v_purchase.kind = 'pack' or v_purchase.status <> 'open' then
    outcome := 'attached';
  elsif backend.live_subscription(v_purchase.user_id) is not null then
    outcome := 'already_subscribed';  -- it began after create_purchase had looked
  else
    outcome := 'attached';
    rival_sessions := array(
      select p.stripe_session_id from public.purchases p
       where p.user_id = v_purchase.user_id and p.kind = 'plan' and p.id <> v_purchase.id
         and p.status in ('open', 'pending', 'paid')
         and not exists (select from public.subscriptions s where s.id = p.stripe_subscription_id)
       order by p.created_at, p.id);
  end if;
end $$;
comment on function backend.attach_checkout_session(uuid, text) is 'Notes the payment session of a purchase. A webhook may have come first. rival_sessions are the user''s other sessions that are, or may yet become, a subscription we do not know of. Outcomes: attached, already_subscribed, not_found.';

create function backend.get_checkout(p_user uuid, p_session_id text)
  returns table (
    purchase_id uuid,
    kind text,
    item_id text,
    "interval" text,  -- noqa: RF06
    credits numeric,
    status text,
    created_at timestamptz,
    paid_at timestamptz
  )
  language sql stable security definer set search_path = ''
as $$
  select p.id, p.kind, p.item_id, p.interval, p.credits, p.status, p.created_at, p.paid_at
    from public.purchases p where p.user_id = p_user and p.stripe_session_id = p_session_id
$$;
comment on function backend.get_checkout(uuid, text) is 'A user''s own purchase by its payment session; no row for anybody else''s.';

-- migrate:down
