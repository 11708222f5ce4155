-- The usual design with all we know put into it, so that nobody need take usual_design.sql for a straw man; bench/README.md
-- lists what is different. Nobody is known to run this.

create schema tuned;

create table tuned.balances (
  user_id uuid primary key,
  balance numeric(14, 3) not null default 0 check (balance >= 0),
  updated_at timestamptz not null default now()
) with (fillfactor = 50);

create table tuned.entries (
  id bigint generated always as identity primary key,
  user_id uuid not null,
  type text not null check (type in ('add', 'reserve', 'charge', 'refund')),
  amount numeric(14, 3) not null check (amount > 0),
  balance_after numeric(14, 3) not null,
  job_id uuid,
  key text,
  created_at timestamptz not null default now()
);
create unique index entries_once_per_job on tuned.entries (job_id, type) where job_id is not null;
create unique index entries_once_per_key on tuned.entries (key) where key is not null;
create index entries_user on tuned.entries (user_id, created_at);
create index entries_reserved on tuned.entries (created_at) where type = 'reserve';

create function tuned.check_amount(p_amount numeric) returns void
  language plpgsql immutable set search_path = ''
as $$
begin
  if p_amount is null or p_amount <= 0 or p_amount >= 100000000000 or p_amount <> round(p_amount, 3) then
    raise exception 'not an amount';
  end if;
end $$;

create function tuned.add(p_user uuid, p_key text, p_amount numeric) returns boolean
  language plpgsql security definer set search_path = ''
as $$
declare
  v_balance numeric;
begin
  perform tuned.check_amount(p_amount);
  insert into tuned.balances (user_id) values (p_user) on conflict do nothing;
  select balance into v_balance from tuned.balances where user_id = p_user for update;
  insert into tuned.entries (user_id, type, amount, balance_after, key)
    values (p_user, 'add', p_amount, v_balance + p_amount, p_key)
    on conflict do nothing;
  if not found then
    return false;
  end if;
  update tuned.balances set balance = balance + p_amount, updated_at = now() where user_id = p_user;
  return true;
end $$;

create function tuned.reserve(p_user uuid, p_job uuid, p_amount numeric) returns boolean
  language plpgsql security definer set search_path = ''
as $$
declare
  v_earlier tuned.entries;
  v_balance numeric;
begin
  perform tuned.check_amount(p_amount);
  select * into v_earlier from tuned.entries where job_id = p_job and type = 'reserve';
  if found then
    return v_earlier.user_id = p_user and v_earlier.amount = p_amount;
  end if;
  update tuned.balances set balance = balance - p_amount, updated_at = now()
   where user_id = p_user and balance >= p_amount
   returning balance into v_balance;
  if not found then
    return false;
  end if;
  insert into tuned.entries (user_id, type, amount, balance_after, job_id)
    values (p_user, 'reserve', p_amount, v_balance, p_job)
    on conflict do nothing;
  if not found then
    update tuned.balances set balance = balance + p_amount where user_id = p_user;
    select * into v_earlier from tuned.entries where job_id = p_job and type = 'reserve';
    return v_earlier.user_id = p_user and v_earlier.amount = p_amount;
  end if;
  return true;
end $$;

create function tuned.charge(p_user uuid, p_job uuid, p_amount numeric) returns boolean
  language plpgsql security definer set search_path = ''
as $$
declare
  v_balance numeric;
begin
  perform tuned.check_amount(p_amount);
  -- a charge and a refund of one job must not both pass: the account's row puts them in a line
  select balance into v_balance from tuned.balances where user_id = p_user for update;
  if not exists (
    select from tuned.entries
     where job_id = p_job and type = 'reserve' and user_id = p_user and amount = p_amount)
  then
    return false;
  end if;
  if exists (select from tuned.entries where job_id = p_job and type in ('charge', 'refund')) then
    return false;
  end if;
  insert into tuned.entries (user_id, type, amount, balance_after, job_id)
    values (p_user, 'charge', p_amount, v_balance, p_job);
  return true;
end $$;

create function tuned.find_stuck(p_age interval, p_limit integer)
  returns table (job_id uuid, user_id uuid, amount numeric, reserved_at timestamptz)
  language sql stable security definer set search_path = ''
as $$
  select r.job_id, r.user_id, r.amount, r.created_at
    from tuned.entries r
   where r.type = 'reserve'
     and r.created_at < now() - p_age
     and not exists (
       select from tuned.entries e where e.job_id = r.job_id and e.type in ('charge', 'refund'))
   order by r.created_at
   limit p_limit
$$;

grant usage on schema tuned to holdfast_backend;
grant execute on all functions in schema tuned to holdfast_backend;
