-- The usual design of a credit ledger, written anew for comparison. bench/README.md names, trait by trait, the public
-- systems it was seen in: a balance column, a list of entries, and a reservation is open while no entry ends it.

create schema usual;

create table usual.balances (
  user_id uuid primary key,
  balance numeric(14, 3) not null default 0 check (balance >= 0),
  updated_at timestamptz not null default now()
);

create table usual.entries (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references usual.balances (user_id) on delete cascade,
  type text not null check (type in ('add', 'reserve', 'charge', 'refund')),
  amount numeric(14, 3) not null check (amount > 0),
  balance_after numeric(14, 3) not null,
  job_id uuid,
  idempotency_key text,
  description text,
  created_at timestamptz not null default now()
);
create unique index entries_once_per_key on usual.entries (idempotency_key) where idempotency_key is not null;
create unique index entries_charged_once on usual.entries (job_id) where type = 'charge';
create index entries_user on usual.entries (user_id, created_at desc);
create index entries_job on usual.entries (job_id);

create function usual.add(p_user uuid, p_key text, p_amount numeric) returns boolean
  language plpgsql security definer set search_path = ''
as $$
declare
  v_balance numeric;
begin
  if p_amount is null or p_amount <= 0 then
    raise exception 'not an amount';
  end if;
  if exists (select from usual.entries where idempotency_key = p_key) then
    return false;
  end if;
  insert into usual.balances (user_id) values (p_user) on conflict do nothing;
  update usual.balances set balance = balance + p_amount, updated_at = now()
   where user_id = p_user
   returning balance into v_balance;
  insert into usual.entries (user_id, type, amount, balance_after, idempotency_key)
    values (p_user, 'add', p_amount, v_balance, p_key);
  return true;
end $$;

create function usual.reserve(p_user uuid, p_job uuid, p_amount numeric, p_key text) returns boolean
  language plpgsql security definer set search_path = ''
as $$
declare
  v_earlier usual.entries;
  v_balance numeric;
begin
  if p_amount is null or p_amount <= 0 then
    raise exception 'not an amount';
  end if;
  select * into v_earlier from usual.entries where idempotency_key = p_key;
  if found then
    return v_earlier.user_id = p_user;
  end if;
  select balance into v_balance from usual.balances where user_id = p_user for update;
  if not found or v_balance < p_amount then
    return false;
  end if;
  update usual.balances set balance = balance - p_amount, updated_at = now()
   where user_id = p_user
   returning balance into v_balance;
  insert into usual.entries (user_id, type, amount, balance_after, job_id, idempotency_key)
    values (p_user, 'reserve', p_amount, v_balance, p_job, p_key);
  return true;
end $$;

create function usual.charge(p_user uuid, p_job uuid, p_amount numeric) returns boolean
  language plpgsql security definer set search_path = ''
as $$
declare
  v_reserved numeric;
  v_balance numeric;
begin
  if p_amount is null or p_amount <= 0 then
    raise exception 'not an amount';
  end if;
  -- a charge and a refund of one job must not both pass: the account's row puts them in a line
  perform 1 from usual.balances where user_id = p_user for update;
  select amount into v_reserved from usual.entries
   where user_id = p_user and job_id = p_job and type = 'reserve';
  if not found then
    return false;
  end if;
  if p_amount <> v_reserved then
    raise exception 'the charge is not what was reserved';
  end if;
  if exists (select from usual.entries where job_id = p_job and type = 'charge') then
    return false;
  end if;
  if exists (select from usual.entries where job_id = p_job and type = 'refund') then
    return false;
  end if;
  select balance into v_balance from usual.balances where user_id = p_user;
  insert into usual.entries (user_id, type, amount, balance_after, job_id)
    values (p_user, 'charge', v_reserved, v_balance, p_job);
  return true;
end $$;

create function usual.find_stuck(p_age interval, p_limit integer)
  returns table (job_id uuid, user_id uuid, amount numeric, reserved_at timestamptz)
  language sql stable security definer set search_path = ''
as $$
  select r.job_id, r.user_id, r.amount, r.created_at
    from usual.entries r
   where r.type = 'reserve'
     and r.created_at < now() - p_age
     and not exists (
       select from usual.entries e where e.job_id = r.job_id and e.type in ('charge', 'refund'))
   order by r.created_at
   limit p_limit
$$;

grant usage on schema usual to holdfast_backend;
grant execute on all functions in schema usual to holdfast_backend;
