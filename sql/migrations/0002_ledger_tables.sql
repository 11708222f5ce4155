-- migrate:up
-- The ledger's tables. No foreign key leads to auth.users: money history outlives an account.
-- A table's checks are parsed and planned again by every statement that writes a row, and were a third of a
-- reserve's time. So what one column may hold is said by a domain, which a session reads once; a rule between columns
-- is a trigger on those that a reserve and a charge leave alone; `ledger.audit()` names what neither can refuse.

create domain ledger.credits as numeric(14, 3) constraint credits_are_not_negative check (value >= 0);
comment on domain ledger.credits is 'An amount that cannot be negative.';
create domain ledger.grant_source as text
  constraint source_is_known check (value in ('pack', 'plan', 'welcome', 'adjustment', 'restored'));
comment on domain ledger.grant_source is 'What brought a grant.';
create domain ledger.entry_type as text constraint type_is_known
  check (value in ('grant', 'reserve', 'charge', 'refund', 'expire', 'clawback', 'restore'));
comment on domain ledger.entry_type is 'The movements of credits.';

create table public.credit_balances (
  user_id uuid primary key,
  available ledger.credits not null default 0,
  owed ledger.credits not null default 0,
  next_expiry_at timestamptz not null default 'infinity'
) with (fillfactor = 50);
create index credit_balances_next_expiry on public.credit_balances (next_expiry_at)
  where next_expiry_at < 'infinity';
comment on table public.credit_balances is 'One row a user. What is reserved is not here: it is the sum of the open reservations, so that a full charge need not lock this row.';
comment on column public.credit_balances.available is 'Credits that may be reserved now.';
comment on column public.credit_balances.owed is 'Debt: credits clawed back after they were spent. The next grant or refund pays it first.';
comment on column public.credit_balances.next_expiry_at is 'Not later than the earliest expiry of a grant that has something left; a reserve looks no further while it lies ahead.';

create table public.credit_grants (
  id bigint generated always as identity primary key,
  user_id uuid not null,
  source ledger.grant_source not null,
  source_key text not null unique,
  amount ledger.credits not null,
  remaining ledger.credits not null,
  expired ledger.credits not null default 0,
  reversed ledger.credits not null default 0,
  absorbed ledger.credits not null default 0,
  priority smallint not null default 100,
  expires_at timestamptz not null default 'infinity',
  description text,
  created_at timestamptz not null default now(),
  is_open boolean not null generated always as (remaining > 0) stored
) with (fillfactor = 50);
-- on is_open, not on remaining: spending a part then stays a heap-only update
create index credit_grants_spending_order on public.credit_grants (user_id, expires_at, priority, id)
  where is_open;
create index credit_grants_user on public.credit_grants (user_id, id);
comment on table public.credit_grants is 'Credits that came in, each under the key of the fact that brought them.';
comment on column public.credit_grants.source_key is 'The business key (cs:…, in:…, welcome:…). One fact grants once, for ever.';
comment on column public.credit_grants.remaining is 'Not yet reserved, expired or clawed back.';
comment on column public.credit_grants.expired is 'What was left when it expired.';
comment on column public.credit_grants.reversed is 'How much of the amount is reversed now, in total.';
comment on column public.credit_grants.absorbed is 'The part of `reversed` that met credits which had expired unspent: nothing was taken for it.';
comment on column public.credit_grants.priority is 'Among equal expiries, lower is spent first.';

create table public.credit_reservations (
  id uuid primary key,
  user_id uuid not null,
  amount ledger.credits not null,
  grant_ids bigint[] not null,
  grant_amounts numeric(14, 3)[] not null,
  charged ledger.credits,
  reserved_at timestamptz not null default now(),
  settled_at timestamptz
) with (fillfactor = 70);
-- on charged, not on settled_at: this index is nearly empty, so a settlement, which asks for settled_at, would be
-- planned to walk it, past all that were settled since the last vacuum, rather than find its id
create index credit_reservations_open on public.credit_reservations (user_id, reserved_at)
  where charged is null;
create index credit_reservations_user on public.credit_reservations (user_id, reserved_at);
comment on table public.credit_reservations is 'Credits set aside before a job is dispatched. Settled once: charged for what was delivered, the rest refunded.';
comment on column public.credit_reservations.id is 'The job''s id, chosen by the caller.';
comment on column public.credit_reservations.grant_ids is 'Which grants it was taken from, in the order of taking; grant_amounts says how much from each.';
comment on column public.credit_reservations.charged is 'Null while open, which is what an index of the open ones is on.';

create table public.credit_reversals (
  reversal_key text primary key,
  grant_id bigint not null references public.credit_grants (id),
  reversed_total numeric(14, 3) not null,
  created_at timestamptz not null default now()
);
create index credit_reversals_grant on public.credit_reversals (grant_id);
comment on table public.credit_reversals is 'The reversals that were applied, also those that changed nothing: a late copy of an old one must not undo a newer one.';

create table public.credit_ledger (
  id bigint generated always as identity primary key,
  user_id uuid not null,
  type ledger.entry_type not null,
  available_delta numeric(14, 3) not null default 0,
  reserved_delta numeric(14, 3) not null default 0,
  owed_delta numeric(14, 3) not null default 0,
  available_after numeric(14, 3),
  owed_after numeric(14, 3),
  reservation_id uuid,
  grant_id bigint,
  key text,
  description text,
  created_at timestamptz not null default now()
);
create index credit_ledger_user on public.credit_ledger (user_id, id);
create unique index credit_ledger_once_per_reservation on public.credit_ledger (reservation_id, type)
  where reservation_id is not null;
create unique index credit_ledger_once_per_key on public.credit_ledger (type, key) where key is not null;
comment on table public.credit_ledger is 'Append-only: one row a movement. Balances are its sums.';
comment on column public.credit_ledger.available_after is 'The balance after this entry; null on a charge, which does not touch (nor lock) the balance.';
comment on column public.credit_ledger.key is 'The business key of a grant, clawback or restore.';

create function ledger.refuse_change() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  raise exception 'the credit ledger is append-only' using errcode = 'HF007';
end $$;
comment on function ledger.refuse_change() is 'Keeps entries as they were written, whoever asks. SQLSTATE HF007.';
create trigger credit_ledger_is_append_only before update or delete or truncate on public.credit_ledger
  for each statement execute function ledger.refuse_change();

create function ledger.refuse_row() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  raise exception 'a row of % breaks the rule %', tg_table_name, tg_name
    using errcode = 'check_violation', table = tg_table_name, constraint = tg_name;
end $$;
comment on function ledger.refuse_row() is 'Refuses a row that breaks a rule between columns, which the trigger names. SQLSTATE 23514.';
-- after, not before: a trigger that comes before locks the row first, fired or not
create trigger debt_leaves_nothing_available after insert or update of owed on public.credit_balances
  for each row when (new.owed > 0 and new.available > 0) execute function ledger.refuse_row();
create trigger grant_adds_up after insert or update of amount, expired, reversed, absorbed on public.credit_grants
  for each row
  when (new.amount = 0 or new.reversed > new.amount or new.absorbed > least(new.expired, new.reversed))
  execute function ledger.refuse_row();

-- migrate:down
