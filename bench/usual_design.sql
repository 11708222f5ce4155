-- The usual design of a credit ledger, written for comparison: one balance column, an append-only list of entries, and
-- a reservation's state found by looking for the entry that would have ended it. It is hardened and indexed as well as
-- ours (no subtransaction where ON CONFLICT will do, heap-only updates of the balance, one index a question), moves the
-- same numeric type and is as safe to call again. It has no grants and no expiry, so it writes fewer rows for a reserve.

create schema usual;

create table usual.balances (
  user_id uuid primary key,
  balance numeric(14, 3) not null default 0 check (balance >= 0),
  updated_at timestamptz not null default now()
) with (fillfactor = 50);

create table usual.entries (
  id bigint generated always as identity primary key,
  user_id uuid not null,
  type text not null check (type in ('add', 'reserve', 'charge', 'refund')),
  amount numeric(14, 3) not null check (amount > 0),
  balance_after numeric(14, 3) not null,
  reservation_id uuid,
  key text,
  description text,
  created_at timestamptz not null default now()
);
create unique index entries_once_per_reservation on usual.entries (reservation_id, type)
  where reservation_id is not null;
create unique index entries_once_per_key on usual.entries (key) where key is not null;
create index entries_user on usual.entries (user_id, created_at);
create index entries_reserved on usual.entries (created_at) where type = 'reserve';

create function usual.check_amount(p_amount numeric) returns void
  language plpgsql immutable set search_path = ''
as $$
begin
  if p_amount is null or p_amount <= 0 or p_amount >= 100000000000 or p_amount <> round(p_amount, 3) then
    raise exception 'not an amount';
  end if;
end $$;

create function usual.add(p_user uuid, p_key text, p_amount numeric) returns boolean
  language plpgsql security definer set search_path = ''
as $$
declare
  v_balance numeric;
begin
  perform usual.check_amount(p_amount);
  insert into usual.balances (user_id) values (p_user) on conflict do nothing;
  select balance into v_balance from usual.balances where user_id = p_user for update;
  insert into usual.entries (user_id, type, amount, balance_after, key)
    values (p_user, 'add', p_amount, v_balance + p_amount, p_key)
    on conflict do nothing;
  if not found then
    return false;
  end if;
  update usual.balances set balance = balance + p_amount, updated_at = now() where user_id = p_user;
  return true;
end $$;

create function usual.reserve(p_user uuid, p_reservation uuid, p_amount numeric) returns boolean
  language plpgsql security definer set search_path = ''
as $$
declare
  v_balance numeric;
  v_user uuid;
  v_amount numeric;
begin
  perform usual.check_amount(p_amount);
  -- takes the row lock that makes copies of this call wait
  update usual.balances set balance = balance - p_amount, updated_at = now()
   where user_id = p_user and balance >= p_amount
   returning balance into v_balance;
  if not found then
    return false;
  end if;
  insert into usual.entries (user_id, type, amount, balance_after, reservation_id)
    values (p_user, 'reserve', p_amount, v_balance, p_reservation)
    on conflict do nothing;
  if not found then
    update usual.balances set balance = balance + p_amount where user_id = p_user;
    select user_id, amount into v_user, v_amount
      from usual.entries where reservation_id = p_reservation and type = 'reserve';
    return v_user = p_user and v_amount = p_amount;
  end if;
  return true;
end $$;

create function usual.charge(p_user uuid, p_reservation uuid, p_amount numeric) returns boolean
  language plpgsql security definer set search_path = ''
as $$
declare
  v_balance numeric;
  v_reserved numeric;
begin
  perform usual.check_amount(p_amount);
  -- a charge and a refund of one reservation must not both pass: the account's row serializes them
  select balance into v_balance from usual.balances where user_id = p_user for update;
  select amount into v_reserved
    from usual.entries where reservation_id = p_reservation and type = 'reserve' and user_id = p_user;
  if not found then
    return false;
  elsif v_reserved <> p_amount then
    raise exception 'another amount was reserved';
  elsif exists (
    select from usual.entries where reservation_id = p_reservation and type in ('charge', 'refund')
  ) then
    return false;
  end if;
  insert into usual.entries (user_id, type, amount, balance_after, reservation_id)
    values (p_user, 'charge', p_amount, v_balance, p_reservation)
    on conflict do nothing;
  return found;
end $$;

create function usual.find_stuck(p_age interval, p_limit integer)
  returns table (reservation_id uuid, user_id uuid, amount numeric, reserved_at timestamptz)
  language sql stable security definer set search_path = ''
as $$
  select r.reservation_id, r.user_id, r.amount, r.created_at
    from usual.entries r
   where r.type = 'reserve'
     and r.created_at < now() - p_age
     and not exists (
       select from usual.entries e
        where e.reservation_id = r.reservation_id and e.type in ('charge', 'refund'))
   order by r.created_at
   limit p_limit
$$;

grant usage on schema usual to holdfast_backend;
grant execute on all functions in schema usual to holdfast_backend;

-- The floor: the same number of commits, each the least that moves credits and notes it.
create schema floor;
create table floor.balances (user_id uuid primary key, balance numeric(14, 3) not null) with (fillfactor = 50);
create table floor.entries (
  id bigint generated always as identity primary key,
  user_id uuid not null,
  amount numeric(14, 3) not null,
  reservation_id uuid not null
);
grant usage on schema floor to holdfast_backend;
grant select, insert, update on all tables in schema floor to holdfast_backend;
