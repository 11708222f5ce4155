-- migrate:up
-- The ledger's functions. Each is one transaction and one round trip, safe to call again, and names its outcome.
-- Misuse raises: HF001 not an amount, HF002 grant key reused with other terms, HF003 reservation id reused with other
-- terms, HF004 charge exceeds the reservation, HF005 reversal key reused with other terms, HF006 total out of range.
-- Lock order, everywhere: reservation, then balance. Whoever changes a grant holds its user's balance row.

-- The first two are parsed here, so no search_path bends them, and become part of the statements that use them.
create function ledger.clock() returns timestamptz
  language sql stable
  return now();
comment on function ledger.clock() is 'The ledger''s time. One place, so that tests can move it.';

-- NaN compares above every number, infinity above the limit
create function ledger.is_amount(p_value numeric) returns boolean
  language sql immutable
  return coalesce(p_value >= 0 and p_value < 100000000000 and p_value = round(p_value, 3), false);
comment on function ledger.is_amount(numeric) is 'Whether the value is a finite amount of at most 3 decimals, zero or more.';

create function ledger.expire_account(p_user uuid) returns integer
  language plpgsql security definer set search_path = ''
as $$
declare
  v_available numeric;
  v_owed numeric;
  v_next timestamptz;
  v_count integer := 0;
  g record;
begin
  select available, owed, next_expiry_at into v_available, v_owed, v_next
    from public.credit_balances where user_id = p_user for update;
  if not found or v_next > ledger.clock() then
    return 0;
  end if;
  for g in
    select id, remaining from public.credit_grants
     where user_id = p_user and is_open and expires_at <= ledger.clock()
     order by expires_at, priority, id
  loop
    update public.credit_grants set expired = expired + g.remaining, remaining = 0 where id = g.id;
    v_available := v_available - g.remaining;
    insert into public.credit_ledger (user_id, type, available_delta, available_after, owed_after, grant_id, created_at)
      values (p_user, 'expire', -g.remaining, v_available, v_owed, g.id, ledger.clock());
    v_count := v_count + 1;
  end loop;
  update public.credit_balances
     set available = v_available,
         next_expiry_at = coalesce(
           (select min(expires_at) from public.credit_grants where user_id = p_user and is_open), 'infinity')
   where user_id = p_user;
  return v_count;
end $$;
comment on function ledger.expire_account(uuid) is 'Expires the due grants of one user and returns how many. Locks the balance.';

create function ledger.take_from_grants(
  p_user uuid, p_amount numeric, out grant_ids bigint[], out grant_amounts numeric[]
)
  language plpgsql security definer set search_path = ''
as $$
declare
  v_left numeric := p_amount;
  v_take numeric;
  g record;
begin
  grant_ids := '{}';
  grant_amounts := '{}';
  if v_left = 0 then
    return;
  end if;
  -- one at a time, since the first one nearly always has enough; one that is used up is no longer open
  loop
    select id, remaining into g from public.credit_grants
     where user_id = p_user and is_open
     order by expires_at, priority, id
     limit 1;
    exit when not found;
    v_take := least(g.remaining, v_left);
    update public.credit_grants set remaining = remaining - v_take where id = g.id;
    grant_ids := grant_ids || g.id;
    grant_amounts := grant_amounts || v_take;
    v_left := v_left - v_take;
    exit when v_left = 0;
  end loop;
  if v_left > 0 then
    raise exception 'the grants of user % hold % less than the balance says', p_user, v_left;
  end if;
end $$;
comment on function ledger.take_from_grants(uuid, numeric) is 'Takes credits off a user''s grants in spending order: soonest expiry, priority, age. The caller holds the balance row and has debited it.';

create function ledger.grant(
  p_user uuid,
  p_source text,
  p_source_key text,
  p_amount numeric,
  p_expires_at timestamptz default 'infinity',
  p_priority integer default 100,
  p_description text default null
) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  v_balance public.credit_balances;
  v_paid numeric;
  v_grant bigint;
begin
  if p_amount = 0 or not ledger.is_amount(p_amount) then
    raise exception 'not an amount to grant' using errcode = 'HF001';
  end if;
  if p_source = 'restored' or p_source_key like 'restored:%' then
    -- the ledger's own, without an entry: a caller's would look like a missing one, or take a refund's key
    raise exception 'restored credits are not granted' using errcode = 'check_violation';
  end if;
  insert into public.credit_balances (user_id) values (p_user) on conflict do nothing;
  select * into v_balance from public.credit_balances where user_id = p_user for update;
  v_paid := least(v_balance.owed, p_amount);
  insert into public.credit_grants
      (user_id, source, source_key, amount, remaining, priority, expires_at, description, created_at)
    values (p_user, p_source, p_source_key, p_amount, p_amount - v_paid, p_priority,
            coalesce(p_expires_at, 'infinity'), p_description, ledger.clock())
    on conflict (source_key) do nothing
    returning id into v_grant;
  if v_grant is null then
    if exists (
      select from public.credit_grants
       where source_key = p_source_key and user_id = p_user and amount = p_amount and source = p_source
    ) then
      return 'duplicate';
    end if;
    raise exception 'this source key granted something else' using errcode = 'HF002';
  end if;
  update public.credit_balances
     set available = available + p_amount - v_paid,
         owed = owed - v_paid,
         next_expiry_at = case
           when p_amount > v_paid then least(next_expiry_at, p_expires_at) else next_expiry_at end
   where user_id = p_user
   returning * into v_balance;
  insert into public.credit_ledger
      (user_id, type, available_delta, owed_delta, available_after, owed_after, grant_id, key, description, created_at)
    values (p_user, 'grant', p_amount - v_paid, -v_paid, v_balance.available, v_balance.owed, v_grant,
            p_source_key, p_description, ledger.clock());
  return 'granted';
end $$;
comment on function ledger.grant(uuid, text, text, numeric, timestamptz, integer, text) is 'Grants credits under a business key, paying debt first. Outcomes: granted, duplicate. HF001, HF002.';

create function ledger.reservation_outcome(p_user uuid, p_reservation uuid, p_amount numeric) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  r public.credit_reservations;
begin
  select * into r from public.credit_reservations where id = p_reservation;
  if not found then
    return null;
  end if;
  if r.user_id <> p_user or r.amount <> p_amount then
    raise exception 'this id reserved something else' using errcode = 'HF003';
  end if;
  return case when r.settled_at is null then 'duplicate' else 'already_settled' end;
end $$;
comment on function ledger.reservation_outcome(uuid, uuid, numeric) is 'What a repeated reserve is told: duplicate, already_settled, or null when the id is new. HF003.';

create function ledger.reserve(p_user uuid, p_reservation uuid, p_amount numeric) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  v_available numeric;
  v_outcome text;
  v_taken record;
begin
  if not ledger.is_amount(p_amount) then
    raise exception 'not an amount to reserve' using errcode = 'HF001';
  end if;

  if p_amount > 0 then
    update public.credit_balances set available = available - p_amount
     where user_id = p_user and available >= p_amount and next_expiry_at > ledger.clock()
     returning available into v_available;
    if not found then
      -- too little, or something of this account is due to expire: settle that and ask once more
      perform ledger.expire_account(p_user);
      update public.credit_balances set available = available - p_amount
       where user_id = p_user and available >= p_amount
       returning available into v_available;
      if not found then
        return coalesce(ledger.reservation_outcome(p_user, p_reservation, p_amount), 'insufficient_credits');
      end if;
    end if;
  end if;

  -- under the balance lock: a copy of this call has either committed, and is seen here, or waits for us
  if p_amount > 0 then
    -- nearly always the id is new and the first grant has enough; otherwise nothing is written here
    with first as (
      select id, remaining from public.credit_grants
       where user_id = p_user and is_open
       order by expires_at, priority, id
       limit 1
    ), kept as (
      insert into public.credit_reservations (id, user_id, amount, grant_ids, grant_amounts, reserved_at)
        select p_reservation, p_user, p_amount, array[first.id], array[p_amount], ledger.clock()
          from first where first.remaining >= p_amount
        on conflict (id) do nothing
        returning grant_ids[1] as grant_id
    ), taken as (
      update public.credit_grants g set remaining = g.remaining - p_amount from kept where g.id = kept.grant_id
    )
    insert into public.credit_ledger
        (user_id, type, available_delta, reserved_delta, available_after, owed_after, reservation_id, created_at)
      select p_user, 'reserve', -p_amount, p_amount, v_available, 0, p_reservation, ledger.clock() from kept;
    if found then
      return 'reserved';
    end if;
  end if;

  if exists (select from public.credit_reservations where id = p_reservation) then
    v_outcome := ledger.reservation_outcome(p_user, p_reservation, p_amount);
    update public.credit_balances set available = available + p_amount where user_id = p_user and p_amount > 0;
    return v_outcome;
  end if;

  v_taken := ledger.take_from_grants(p_user, p_amount);
  insert into public.credit_reservations (id, user_id, amount, grant_ids, grant_amounts, reserved_at)
    values (p_reservation, p_user, p_amount, v_taken.grant_ids, v_taken.grant_amounts, ledger.clock())
    on conflict (id) do nothing;
  if not found then
    -- nobody waited: another user's reservation of the same id, or a free one of our own
    v_outcome := ledger.reservation_outcome(p_user, p_reservation, p_amount);
    return v_outcome;
  end if;
  insert into public.credit_ledger
      (user_id, type, available_delta, reserved_delta, available_after, owed_after, reservation_id, created_at)
    values (p_user, 'reserve', -p_amount, p_amount, v_available, case when p_amount > 0 then 0 end,
            p_reservation, ledger.clock());
  return 'reserved';
end $$;
comment on function ledger.reserve(uuid, uuid, numeric) is 'Sets credits aside for a job. Outcomes: reserved, duplicate, already_settled, insufficient_credits. HF001, HF003.';

create function ledger.settle(p_reservation uuid, p_charge numeric) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  r public.credit_reservations;
begin
  if not ledger.is_amount(p_charge) then
    raise exception 'not an amount to charge' using errcode = 'HF001';
  end if;
  update public.credit_reservations set charged = p_charge, settled_at = ledger.clock()
   where id = p_reservation and settled_at is null and amount >= p_charge
   returning * into r;
  if not found then
    select * into r from public.credit_reservations where id = p_reservation;
    if not found then
      return 'not_found';
    elsif r.settled_at is not null then
      return 'already_settled';
    elsif r.amount >= p_charge then
      -- its reserve committed between the two statements: now the first one finds it
      return ledger.settle(p_reservation, p_charge);
    end if;
    raise exception 'the charge exceeds the reservation' using errcode = 'HF004';
  end if;
  if p_charge > 0 then
    insert into public.credit_ledger (user_id, type, reserved_delta, reservation_id, created_at)
      values (r.user_id, 'charge', -p_charge, p_reservation, ledger.clock());
  end if;
  if r.amount > p_charge then
    perform ledger.refund(r);
  end if;
  return 'settled';
end $$;
comment on function ledger.settle(uuid, numeric) is 'Ends a reservation: charges 0 to its amount, refunds the rest. Outcomes: settled, already_settled, not_found. HF001, HF004. A full charge does not lock the balance.';

create function ledger.refund(p_reservation public.credit_reservations) returns void
  language plpgsql security definer set search_path = ''
as $$
declare
  v_refund numeric := p_reservation.amount - p_reservation.charged;
  v_balance public.credit_balances;
  v_paid numeric;
  v_keep numeric;
  v_back numeric;
  v_orphaned numeric := 0;
  v_grace constant interval := interval '30 days';
  v_next timestamptz := 'infinity';
  v_expires timestamptz;
begin
  select * into v_balance from public.credit_balances where user_id = p_reservation.user_id for update;
  v_paid := least(v_balance.owed, v_refund);
  -- the charge used what was taken first; debt is paid from what comes next; the rest goes back where it came from
  v_keep := p_reservation.charged + v_paid;
  for i in 1 .. cardinality(p_reservation.grant_ids) loop
    v_back := greatest(p_reservation.grant_amounts[i] - v_keep, 0);
    v_keep := v_keep - (p_reservation.grant_amounts[i] - v_back);
    continue when v_back = 0;
    update public.credit_grants set remaining = remaining + v_back
     where id = p_reservation.grant_ids[i] and expires_at > ledger.clock()
     returning expires_at into v_expires;
    if found then
      v_next := least(v_next, v_expires);
    else
      v_orphaned := v_orphaned + v_back;
    end if;
  end loop;
  if v_orphaned > 0 then
    v_next := least(v_next, ledger.clock() + v_grace);
    perform ledger.restore_as_grant(
      p_reservation.user_id, 'restored:' || p_reservation.id, v_orphaned, ledger.clock() + v_grace);
  end if;
  update public.credit_balances
     set available = available + v_refund - v_paid,
         owed = owed - v_paid,
         next_expiry_at = least(next_expiry_at, v_next)
   where user_id = p_reservation.user_id
   returning * into v_balance;
  insert into public.credit_ledger
      (user_id, type, available_delta, reserved_delta, owed_delta, available_after, owed_after, reservation_id, created_at)
    values (p_reservation.user_id, 'refund', v_refund - v_paid, -v_refund, -v_paid,
            v_balance.available, v_balance.owed, p_reservation.id, ledger.clock());
end $$;
comment on function ledger.refund(public.credit_reservations) is 'The refunding half of settle; the reservation is settled already and its row locked.';

create function ledger.restore_as_grant(p_user uuid, p_source_key text, p_amount numeric, p_expires_at timestamptz)
  returns void
  language sql security definer set search_path = ''
as $$
  insert into public.credit_grants (user_id, source, source_key, amount, remaining, expires_at, description, created_at)
    values (p_user, 'restored', p_source_key, p_amount, p_amount, p_expires_at,
            'credits of an expired grant that came back', ledger.clock())
$$;
comment on function ledger.restore_as_grant(uuid, text, numeric, timestamptz) is 'Gives credits a home when the grant they belong to has expired. Writes no entry: the caller''s movement is the entry.';

create function ledger.reverse(p_source_key text, p_reversal_key text, p_reversed_total numeric) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  v_balance public.credit_balances;
  g public.credit_grants;
  v_change numeric;
  v_own numeric := 0;
  v_absorbed numeric := 0;
  v_others numeric := 0;
  v_owed numeric := 0;
  v_taken record;
begin
  if not ledger.is_amount(p_reversed_total) then
    raise exception 'not an amount to reverse' using errcode = 'HF001';
  end if;
  select * into g from public.credit_grants where source_key = p_source_key;
  if not found then
    return 'not_found';
  end if;
  if p_reversed_total > g.amount then
    raise exception 'more is to be reversed than was granted' using errcode = 'HF006';
  end if;
  perform ledger.expire_account(g.user_id);
  insert into public.credit_reversals (reversal_key, grant_id, reversed_total, created_at)
    values (p_reversal_key, g.id, p_reversed_total, ledger.clock())
    on conflict (reversal_key) do nothing;
  if not found then
    if exists (
      select from public.credit_reversals
       where reversal_key = p_reversal_key and grant_id = g.id and reversed_total = p_reversed_total
    ) then
      return 'duplicate';
    end if;
    raise exception 'this reversal key reversed something else' using errcode = 'HF005';
  end if;
  -- expire_account holds the balance row: from here on nobody else moves this user's credits
  select * into v_balance from public.credit_balances where user_id = g.user_id;
  select * into g from public.credit_grants where id = g.id;
  v_change := p_reversed_total - g.reversed;
  if v_change = 0 then
    return 'unchanged';
  end if;

  if v_change > 0 then
    v_own := least(v_change, g.remaining);
    -- what expired unspent is gone already; taking other credits for it would charge the user twice
    v_absorbed := least(v_change - v_own, g.expired - g.absorbed);
    v_others := least(v_change - v_own - v_absorbed, v_balance.available - v_own);
    v_owed := v_change - v_own - v_absorbed - v_others;
    update public.credit_grants
       set remaining = remaining - v_own, reversed = p_reversed_total, absorbed = absorbed + v_absorbed
     where id = g.id;
    v_taken := ledger.take_from_grants(g.user_id, v_others);
  else
    -- the same way round: first what was taken, last what was absorbed
    v_absorbed := least(v_change + (g.reversed - g.absorbed), 0);
    v_owed := -least(v_balance.owed, v_absorbed - v_change);
    v_own := v_change - v_absorbed - v_owed;
    update public.credit_grants
       set remaining = case when expires_at > ledger.clock() then remaining - v_own else remaining end,
           reversed = p_reversed_total,
           absorbed = absorbed + v_absorbed
     where id = g.id;
    if v_own < 0 and g.expires_at <= ledger.clock() then
      g.expires_at := ledger.clock() + interval '30 days';
      perform ledger.restore_as_grant(g.user_id, 'restored:' || p_reversal_key, -v_own, g.expires_at);
    end if;
  end if;

  update public.credit_balances
     set available = available - v_own - v_others,
         owed = owed + v_owed,
         next_expiry_at = case when v_own < 0 then least(next_expiry_at, g.expires_at) else next_expiry_at end
   where user_id = g.user_id
   returning * into v_balance;
  insert into public.credit_ledger
      (user_id, type, available_delta, owed_delta, available_after, owed_after, grant_id, key, created_at)
    values (g.user_id, case when v_change > 0 then 'clawback' else 'restore' end, -(v_own + v_others), v_owed,
            v_balance.available, v_balance.owed, g.id, p_reversal_key, ledger.clock());
  return case when v_change > 0 then 'clawed_back' else 'restored' end;
end $$;
comment on function ledger.reverse(text, text, numeric) is 'Sets how much of a grant is reversed in total and moves the difference: off that grant, then off other credits, then as debt; back the same way round. Outcomes: clawed_back, restored, unchanged, duplicate, not_found. HF001, HF005, HF006.';

create function ledger.expire_due(p_limit integer default 1000) returns integer
  language plpgsql security definer set search_path = ''
as $$
declare
  v_user uuid;
  v_count integer := 0;
begin
  for v_user in
    select user_id from public.credit_balances
     where next_expiry_at <= ledger.clock() and next_expiry_at < 'infinity'  -- the index says so too
     order by next_expiry_at
     limit p_limit
     for update skip locked
  loop
    v_count := v_count + ledger.expire_account(v_user);
  end loop;
  return v_count;
end $$;
comment on function ledger.expire_due(integer) is 'Expires due grants of up to so many users, skipping those somebody else holds, and returns how many grants expired.';

-- migrate:down
