-- migrate:up
-- Money in. A purchase is written before the payment session exists; what is granted is what the purchase says.

create table public.purchases (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  pack_id text not null,
  credits numeric(14, 3) not null constraint credits_are_positive check (credits > 0),
  amount_minor bigint not null constraint amount_is_positive check (amount_minor > 0),
  currency text not null constraint currency_is_iso check (currency ~ '^[a-z]{3}$'),
  status text not null default 'created' constraint status_is_known
    check (status in ('created', 'open', 'pending', 'paid', 'failed', 'expired')),
  stripe_session_id text unique,
  stripe_payment_intent_id text unique,
  created_at timestamptz not null default now(),
  paid_at timestamptz
);
create index purchases_user on public.purchases (user_id, created_at desc);
comment on table public.purchases is 'What a user set out to buy, and what became of it. The only source of what a payment grants.';
comment on column public.purchases.id is 'Travels through Stripe as client_reference_id.';
comment on column public.purchases.amount_minor is 'Price in the currency''s minor unit (cents).';
comment on column public.purchases.status is 'created: no session yet; open: at the payment page; pending: a delayed method is on its way; paid: credits granted; failed, expired: nothing granted.';

create table backend.stripe_events (
  id text primary key,
  type text not null,
  object_id text,
  outcome text not null,
  created_at timestamptz not null,
  received_at timestamptz not null default now()
);
create index stripe_events_age on backend.stripe_events (received_at);
comment on table backend.stripe_events is 'The gate: Stripe events that took effect or were refused for good, written in the transaction of their effect.';

create function backend.create_purchase(
  p_user uuid,
  p_pack_id text,
  p_credits numeric,
  p_amount_minor bigint,
  p_currency text,
  p_per_hour integer,
  out outcome text,
  out purchase_id uuid,
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
  select count(*), min(created_at) into v_count, v_oldest from public.purchases
   where user_id = p_user and created_at > ledger.clock() - interval '1 hour';
  if v_count >= p_per_hour then
    outcome := 'rate_limited';
    retry_after_seconds := greatest(1, ceil(extract(epoch from v_oldest + interval '1 hour' - ledger.clock())));
    return;
  end if;
  insert into public.purchases (user_id, pack_id, credits, amount_minor, currency, created_at)
    values (p_user, p_pack_id, p_credits, p_amount_minor, p_currency, ledger.clock())
    returning id into purchase_id;
  outcome := 'created';
end $$;
comment on function backend.create_purchase(uuid, text, numeric, bigint, text, integer) is 'Writes a purchase before its payment session is made. Outcomes: created, rate_limited.';

create function backend.attach_checkout_session(p_purchase uuid, p_session_id text) returns text
  language plpgsql security definer set search_path = ''
as $$
begin
  update public.purchases
     set stripe_session_id = p_session_id, status = case status when 'created' then 'open' else status end
   where id = p_purchase and coalesce(stripe_session_id, p_session_id) = p_session_id;
  return case when found then 'attached' else 'not_found' end;
end $$;
comment on function backend.attach_checkout_session(uuid, text) is 'Notes the payment session of a purchase. A webhook may have come first. Outcomes: attached, not_found.';

create function backend.get_checkout(p_user uuid, p_session_id text)
  returns table (
    purchase_id uuid, pack_id text, credits numeric, status text, created_at timestamptz, paid_at timestamptz
  )
  language sql stable security definer set search_path = ''
as $$
  select p.id, p.pack_id, p.credits, p.status, p.created_at, p.paid_at
    from public.purchases p where p.user_id = p_user and p.stripe_session_id = p_session_id
$$;
comment on function backend.get_checkout(uuid, text) is 'A user''s own purchase by its payment session; no row for anybody else''s.';

create function backend.record_checkout_event(
  p_event_id text,
  p_event_type text,
  p_event_created timestamptz,
  p_session_id text,
  p_purchase text,
  p_user text,
  p_state text,
  p_amount_minor bigint,
  p_currency text,
  p_payment_intent text
) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  v_id uuid;
  v_purchase public.purchases;
  v_outcome text;
begin
  -- the gate comes first and waits for a copy under way; it is written with the effect or not at all
  insert into backend.stripe_events (id, type, object_id, outcome, created_at, received_at)
    values (p_event_id, p_event_type, p_session_id, 'received', p_event_created, ledger.clock())
    on conflict (id) do update set outcome = excluded.outcome, received_at = excluded.received_at
      where stripe_events.outcome = 'unknown_purchase';  -- redelivered by hand, it may be known now
  if not found then
    return 'duplicate';
  end if;
  -- client_reference_id is anybody's text: only what a uuid prints as is looked up
  if p_purchase ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    v_id := p_purchase::uuid;
  end if;
  select * into v_purchase from public.purchases where id = v_id for update;
  v_outcome := case
    when p_state not in ('pending', 'paid', 'failed', 'expired') then 'ignored'
    when not found then 'unknown_purchase'
    when coalesce(v_purchase.stripe_session_id, p_session_id) <> p_session_id then 'session_mismatch'
    when p_user is distinct from v_purchase.user_id::text then 'user_mismatch'
    when p_state = 'paid' and p_currency is distinct from v_purchase.currency then 'currency_mismatch'
    when p_state = 'paid' and p_amount_minor is distinct from v_purchase.amount_minor then 'amount_mismatch'
    when v_purchase.status = 'paid' then 'already_granted'
    when p_state = 'paid' then 'granted'
    when p_state = 'pending' then 'pending'
    else 'closed'
  end;

  if v_outcome = 'granted' then
    perform ledger.grant(
      v_purchase.user_id, 'pack', 'cs:' || p_session_id, v_purchase.credits,
      p_description => 'pack ' || v_purchase.pack_id);
    update public.purchases
       set status = 'paid', paid_at = ledger.clock(), stripe_session_id = p_session_id,
           stripe_payment_intent_id = p_payment_intent
     where id = v_purchase.id;
  elsif v_outcome = 'pending' and v_purchase.status in ('created', 'open')
     or v_outcome = 'closed' and v_purchase.status in ('created', 'open', 'pending') then
    update public.purchases set status = p_state, stripe_session_id = p_session_id where id = v_purchase.id;
  end if;
  update backend.stripe_events set outcome = v_outcome where id = p_event_id;
  return v_outcome;
end $$;
comment on function backend.record_checkout_event(text, text, timestamptz, text, text, text, text, bigint, text, text) is 'Applies one Checkout Session event, once: gate, purchase and grant in one transaction. Outcomes: granted, duplicate, already_granted, pending, closed, ignored, unknown_purchase, session_mismatch, user_mismatch, amount_mismatch, currency_mismatch.';

-- migrate:down
