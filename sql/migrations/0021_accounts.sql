-- migrate:up
-- Who a user is: a profile, a role, a welcome gift. An account is opened when Auth writes a user, and again when the
-- API sees one without: nothing here can stop a sign-up, and no gift is paid twice.

create table public.profiles (
  user_id uuid primary key references auth.users (id) on delete cascade,
  role text not null default 'user' constraint role_is_known check (role in ('user', 'admin')),
  welcome text not null default 'waiting' constraint welcome_is_known check (welcome in ('waiting', 'paid', 'refused')),
  created_at timestamptz not null default now()
);
comment on table public.profiles is 'One row a user; it goes with the user. Money history does not (see credit_balances).';
comment on column public.profiles.role is 'Read by backend.has_role; written by operators only.';
comment on column public.profiles.welcome is 'waiting: for a verified e-mail; paid; refused: this address had its gift, or there is none.';

create table backend.welcome_gifts (
  address_hash bytea primary key,
  user_id uuid not null unique,
  created_at timestamptz not null default now()
);
comment on table backend.welcome_gifts is 'Who had the welcome gift. It outlives the user, so that leaving and coming back does not pay again.';
comment on column backend.welcome_gifts.address_hash is 'SHA-256 of the e-mail in lower case; of the user''s id where no e-mail is needed and none is known.';

create table backend.account_settings (
  only_row boolean primary key default true constraint one_row check (only_row),
  welcome_credits numeric(14, 3) not null default 10
    constraint welcome_is_an_amount check (welcome_credits >= 0 and welcome_credits < 100000),
  welcome_needs_verified_email boolean not null default true
);
insert into backend.account_settings default values;
comment on table backend.account_settings is 'What a new account gets. In the database, because the trigger that gives it has no other configuration: `make ops` shows and sets it.';
comment on column backend.account_settings.welcome_credits is 'Credits of the welcome gift; 0 for none.';

create table backend.admin_actions (
  id bigint generated always as identity primary key,
  key text not null unique,
  actor text not null,
  action text not null constraint action_is_known check (action in ('adjust', 'set_role', 'set_welcome')),
  user_id uuid,
  amount numeric(14, 3),
  detail text,
  reason text not null constraint reason_is_given check (length(btrim(reason)) between 3 and 500),
  created_at timestamptz not null default now()
);
create index admin_actions_user on backend.admin_actions (user_id, id);
comment on table backend.admin_actions is 'What people with power did, and why. Written in the transaction of the effect.';
comment on column backend.admin_actions.key is 'The caller''s idempotency key: the same action twice takes effect once.';
comment on column backend.admin_actions.actor is 'user:{id} of an admin, or operator:{name} at a terminal.';

alter table public.profiles enable row level security;
alter table backend.welcome_gifts enable row level security;
alter table backend.account_settings enable row level security;
alter table backend.admin_actions enable row level security;
revoke all on public.profiles, backend.welcome_gifts, backend.account_settings, backend.admin_actions
  from public, anon, authenticated, service_role, holdfast_backend;
revoke all on all sequences in schema public from anon, authenticated, service_role;
grant select on public.profiles to authenticated;
create policy "own rows" on public.profiles for select to authenticated using (user_id = (select auth.uid()));

create function backend.mailbox(p_email text) returns text
  language sql immutable set search_path = ''
as $$
  -- what follows a plus is the reader's own, and Gmail does not read dots
  select nullif(case
      when domain in ('gmail.com', 'googlemail.com') then replace(name, '.', '') || '@gmail.com'
      when domain <> '' then name || '@' || domain
      else name end, '')
    from (
      select split_part(split_part(address, '@', 1), '+', 1) as name, split_part(address, '@', 2) as domain
        from (select lower(btrim(coalesce(p_email, ''))) as address) a
    ) parts
$$;
comment on function backend.mailbox(text) is 'Where mail for an address arrives: one mailbox has many addresses, and gets one gift. Null without one.';

create function backend.open_account(p_user uuid, p_email text, p_email_is_verified boolean) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  v_settings backend.account_settings;
  v_mailbox constant text := backend.mailbox(p_email);
  v_welcome text;
begin
  insert into public.profiles (user_id, created_at) values (p_user, ledger.clock()) on conflict do nothing;
  select welcome into v_welcome from public.profiles where user_id = p_user for update;
  if v_welcome <> 'waiting' then
    return v_welcome;
  end if;
  select * into v_settings from backend.account_settings;
  if v_settings.welcome_needs_verified_email and (v_mailbox is null or not p_email_is_verified) then
    return 'waiting';
  end if;
  v_welcome := 'refused';
  if v_settings.welcome_credits > 0 then
    insert into backend.welcome_gifts (address_hash, user_id, created_at)
      values (sha256(convert_to(coalesce(v_mailbox, p_user::text), 'UTF8')), p_user, ledger.clock())
      on conflict do nothing;
    if found then
      perform ledger.grant(
        p_user, 'welcome', 'welcome:' || p_user, v_settings.welcome_credits, p_description => 'welcome');
      v_welcome := 'paid';
    end if;
  end if;
  update public.profiles set welcome = v_welcome where user_id = p_user;
  return v_welcome;
end $$;
comment on function backend.open_account(uuid, text, boolean) is 'Makes a user''s profile and pays the welcome gift, each once. Outcomes: waiting, paid, refused.';

-- a lock that is not to be had in a second is an error, which the handler below catches; a canceled query it could not
create function backend.open_account_on_sign_up() returns trigger
  language plpgsql security definer set search_path = '' set lock_timeout = '1s'
as $$
begin
  perform backend.open_account(new.id, new.email, new.email_confirmed_at is not null);
  return null;
exception when others then
  raise warning 'the account of user % was not opened: % %', new.id, sqlstate, sqlerrm;
  return null;
end $$;
comment on function backend.open_account_on_sign_up() is 'Opens an account when Auth writes a user. Whatever goes wrong, the user is written: the API opens the account later.';

create trigger holdfast_open_account after insert or update of email_confirmed_at on auth.users
  for each row execute function backend.open_account_on_sign_up();

create function backend.ensure_account(p_user uuid) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  v_email text;
  v_verified boolean;
begin
  select email, email_confirmed_at is not null into v_email, v_verified from auth.users where id = p_user;
  if not found then
    return 'unknown_user';
  end if;
  return backend.open_account(p_user, v_email, v_verified);
end $$;
comment on function backend.ensure_account(uuid) is 'Opens the account of a user whose sign-up did not, or came before Holdfast. Outcomes: waiting, paid, refused, unknown_user.';

create function backend.has_role(p_user uuid, p_role text) returns boolean
  language sql stable security definer set search_path = ''
as $$ select exists (select from public.profiles where user_id = p_user and role = p_role) $$;
comment on function backend.has_role(uuid, text) is 'Whether the user has this role now; a role in a token would outlive its removal.';

create function backend.set_role(p_actor text, p_key text, p_user uuid, p_role text, p_reason text) returns text
  language plpgsql security definer set search_path = ''
as $$
begin
  if backend.ensure_account(p_user) = 'unknown_user' then
    return 'unknown_user';
  end if;
  insert into backend.admin_actions (key, actor, action, user_id, detail, reason, created_at)
    values (p_key, p_actor, 'set_role', p_user, p_role, p_reason, ledger.clock())
    on conflict (key) do nothing;
  if not found then
    return 'duplicate';
  end if;
  update public.profiles set role = p_role where user_id = p_user;
  return 'changed';
end $$;
comment on function backend.set_role(text, text, uuid, text, text) is 'Gives a user a role. For operators only: no role of the backend may execute it. Outcomes: changed, duplicate, unknown_user.';

create function backend.set_welcome(
  p_actor text, p_key text, p_credits numeric, p_needs_verified_email boolean, p_reason text
) returns text
  language plpgsql security definer set search_path = ''
as $$
begin
  insert into backend.admin_actions (key, actor, action, amount, detail, reason, created_at)
    values (p_key, p_actor, 'set_welcome', p_credits,
            case when p_needs_verified_email then 'verified e-mail needed' else 'no e-mail needed' end,
            p_reason, ledger.clock())
    on conflict (key) do nothing;
  if not found then
    return 'duplicate';
  end if;
  update backend.account_settings
     set welcome_credits = p_credits, welcome_needs_verified_email = p_needs_verified_email;
  return 'changed';
end $$;
comment on function backend.set_welcome(text, text, numeric, boolean, text) is 'Sets the gift of accounts opened from now on. For operators only. Outcomes: changed, duplicate.';

create function backend.adjust_credits(p_actor text, p_key text, p_user uuid, p_amount numeric, p_reason text)
  returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  v_action bigint;
  v_reservation constant uuid := gen_random_uuid();
begin
  if p_amount = 0 or not ledger.is_amount(abs(p_amount)) then
    raise exception 'not an amount to adjust by' using errcode = 'HF001';
  end if;
  if backend.ensure_account(p_user) = 'unknown_user' then
    return 'unknown_user';
  end if;
  insert into backend.admin_actions (key, actor, action, user_id, amount, detail, reason, created_at)
    values (p_key, p_actor, 'adjust', p_user, p_amount, case when p_amount < 0 then v_reservation::text end,
            p_reason, ledger.clock())
    on conflict (key) do nothing
    returning id into v_action;
  if v_action is null then
    return case when exists (
        select from backend.admin_actions
         where key = p_key and action = 'adjust' and user_id = p_user and amount = p_amount
      ) then 'duplicate' else 'conflict' end;
  end if;
  if p_amount > 0 then
    perform ledger.grant(
      p_user, 'adjustment', 'adjustment:' || v_action, p_amount, p_description => btrim(p_reason));
  elsif ledger.reserve(p_user, v_reservation, -p_amount) = 'reserved' then
    perform ledger.settle(v_reservation, -p_amount);
  else
    delete from backend.admin_actions where id = v_action;
    return 'insufficient_credits';
  end if;
  return 'adjusted';
end $$;
comment on function backend.adjust_credits(text, text, uuid, numeric, text) is 'Gives credits (above zero) or takes available ones (below), once a key. For operators. Outcomes: adjusted, duplicate, conflict, insufficient_credits, unknown_user. HF001.';

create function backend.adjust_credits_as_admin(
  p_admin uuid, p_key text, p_user uuid, p_amount numeric, p_reason text
) returns text
  language plpgsql security definer set search_path = ''
as $$
begin
  if not backend.has_role(p_admin, 'admin') then
    return 'forbidden';
  end if;
  -- keys of one admin are no other's
  return backend.adjust_credits('user:' || p_admin, p_admin || ':' || p_key, p_user, p_amount, p_reason);
end $$;
comment on function backend.adjust_credits_as_admin(uuid, text, uuid, numeric, text) is 'The same for a signed-in admin. Outcomes: adjusted, duplicate, conflict, insufficient_credits, unknown_user, forbidden.';

revoke execute on all functions in schema backend from public, anon, authenticated, service_role;
grant execute on function
  backend.ensure_account(uuid),
  backend.has_role(uuid, text),
  backend.adjust_credits_as_admin(uuid, text, uuid, numeric, text)
to holdfast_backend;

-- migrate:down
