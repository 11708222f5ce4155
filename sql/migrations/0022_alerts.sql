-- migrate:up
-- Low balance. An alert is written in the transaction that crosses the user's threshold, once a descent, and handed to
-- the owner's event bus from an outbox. A reserve that crosses nothing pays one comparison.

alter table public.credit_balances add column low_balance_at ledger.credits not null default 0.5;
comment on column public.credit_balances.low_balance_at is 'Falling below it raises an alert; 0 raises none.';

create table public.alerts (
  id bigint generated always as identity primary key,
  user_id uuid not null,
  type text not null constraint type_is_known check (type in ('low_balance')),
  threshold numeric(14, 3) not null,
  available numeric(14, 3) not null,
  created_at timestamptz not null default now(),
  constraint one_alert_a_transaction unique (user_id, type, created_at)
);
comment on table public.alerts is 'What a user should notice. A frontend reads its own, also live.';

create table backend.alert_outbox (
  alert_id bigint primary key references public.alerts (id) on delete cascade,
  attempts integer not null default 0,
  leased_until timestamptz not null default '-infinity'
);
comment on table backend.alert_outbox is 'Alerts the event bus has not taken yet.';

alter table public.alerts enable row level security;
alter table backend.alert_outbox enable row level security;
revoke all on public.alerts, backend.alert_outbox
  from public, anon, authenticated, service_role, holdfast_backend;
revoke all on all sequences in schema public from anon, authenticated, service_role;
grant select on public.alerts to authenticated;
create policy "own rows" on public.alerts for select to authenticated using (user_id = (select auth.uid()));

create function backend.raise_low_balance() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  -- at commit: a repeated reserve takes and gives back within its transaction, and alerts nobody
  with crossed as (
    insert into public.alerts (user_id, type, threshold, available, created_at)
    select b.user_id, 'low_balance', b.low_balance_at, b.available, ledger.clock()
      from public.credit_balances b where b.user_id = new.user_id and b.available < b.low_balance_at
    on conflict do nothing
    returning id
  )
  insert into backend.alert_outbox (alert_id) select id from crossed;
  return null;
end $$;
comment on function backend.raise_low_balance() is 'Writes the alert of a balance that fell below its threshold. It may fall again only after it has risen.';

create constraint trigger low_balance after update of available on public.credit_balances
  deferrable initially deferred
  for each row when (new.available < new.low_balance_at and old.available >= old.low_balance_at)
  execute function backend.raise_low_balance();

create function backend.set_low_balance(p_user uuid, p_threshold numeric) returns text
  language plpgsql security definer set search_path = ''
as $$
begin
  if not ledger.is_amount(p_threshold) then
    raise exception 'not an amount' using errcode = 'HF001';
  end if;
  insert into public.credit_balances (user_id, low_balance_at) values (p_user, p_threshold)
    on conflict (user_id) do update set low_balance_at = excluded.low_balance_at;
  return 'changed';
end $$;
comment on function backend.set_low_balance(uuid, numeric) is 'Sets a user''s threshold. Raises no alert by itself, also where the balance is below it. HF001.';

create function backend.list_alerts(p_user uuid, p_limit integer) returns setof public.alerts
  language sql stable security definer set search_path = ''
as $$ select * from public.alerts where user_id = p_user order by created_at desc, id desc limit p_limit $$;
comment on function backend.list_alerts(uuid, integer) is 'A user''s newest alerts.';

create function backend.claim_alerts(p_limit integer, p_lease_seconds integer) returns setof public.alerts
  language sql security definer set search_path = ''
as $$
  with due as (
    select alert_id from backend.alert_outbox
     where leased_until <= ledger.clock()
     order by alert_id
     limit p_limit
     for update skip locked
  ),
  claimed as (
    update backend.alert_outbox o
       set attempts = o.attempts + 1, leased_until = ledger.clock() + make_interval(secs => p_lease_seconds)
      from due where o.alert_id = due.alert_id
    returning o.alert_id
  )
  select a.* from public.alerts a join claimed c on c.alert_id = a.id order by a.id
$$;
comment on function backend.claim_alerts(integer, integer) is 'Leases alerts to send. One whose sender died is leased again: the bus may see it twice, never not at all.';

create function backend.finish_alerts(p_alerts bigint[]) returns integer
  language sql security definer set search_path = ''
as $$
  with sent as (delete from backend.alert_outbox where alert_id = any (p_alerts) returning 1)
  select count(*)::integer from sent
$$;
comment on function backend.finish_alerts(bigint[]) is 'The event bus has taken these.';

create function backend.get_profile(p_user uuid, out role text, out welcome text, out low_balance_at numeric)
  language sql stable security definer set search_path = ''
as $$
  select p.role, p.welcome,
         coalesce((select b.low_balance_at from public.credit_balances b where b.user_id = p_user), 0.5)
    from (select) as always left join public.profiles p on p.user_id = p_user
$$;
comment on function backend.get_profile(uuid) is 'A user''s role, what became of the gift, and the alert''s threshold. Role and gift are null before the account is opened.';

revoke execute on all functions in schema backend from public, anon, authenticated, service_role;
grant execute on function
  backend.get_profile(uuid),
  backend.set_low_balance(uuid, numeric),
  backend.list_alerts(uuid, integer),
  backend.claim_alerts(integer, integer),
  backend.finish_alerts(bigint[])
to holdfast_backend;

-- migrate:down
