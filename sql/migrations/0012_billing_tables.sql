-- migrate:up
-- What Stripe's objects become here. Paid things (payments, plan periods) are facts: written once, never changed but
-- for what is counted on them. Subscriptions, reversals, prices and products have a state that is read from Stripe
-- again for each event; `ticket` says which reading was begun last, so an older one cannot undo a newer one.

create sequence backend.tickets;
comment on sequence backend.tickets is 'Numbers taken before a state is read from Stripe.';

create table backend.customers (
  user_id uuid primary key,
  stripe_customer_id text unique,
  number integer not null default 1,
  forgotten text[] not null default '{}',
  created_at timestamptz not null default now()
);
create index customers_forgotten on backend.customers using gin (forgotten);
comment on table backend.customers is 'One Stripe customer for each user.';
comment on column backend.customers.number is 'The how-manieth customer of this user it is, or will be: part of the idempotency key it is created with.';
comment on column backend.customers.forgotten is 'Customers that were deleted at Stripe. Late events still name them.';

create table backend.products (
  id text primary key,
  name text,
  active boolean not null,
  deleted boolean not null,
  ticket bigint not null,
  updated_at timestamptz not null default now()
);
comment on table backend.products is 'Stripe''s products, mirrored: a price sells only while its product does.';

create table backend.prices (
  id text primary key,
  product_id text,
  lookup_key text,
  active boolean not null,
  deleted boolean not null,
  currency text,
  amount_minor bigint constraint amount_is_not_negative check (amount_minor >= 0),
  interval text constraint interval_is_known check (interval in ('month', 'year')),
  kind text constraint kind_is_known check (kind in ('pack', 'plan')),
  item_id text,
  credits numeric(14, 3) constraint credits_are_positive check (credits > 0),
  months integer constraint months_are_positive check (months > 0),
  terms jsonb not null default '{}',
  ticket bigint not null,
  updated_at timestamptz not null default now(),
  constraint sold_things_have_terms
  check (
    kind is null
    or item_id is not null
    and (kind = 'pack' or credits is not null and months is not null and interval is not null)
  )
);
create index prices_lookup_key on backend.prices (lookup_key);
comment on table backend.prices is 'Stripe''s prices, mirrored, each with what it grants. Never removed: old invoices name old prices.';
comment on column backend.prices.kind is 'Null: not ours, or not in the catalogue yet. Once set it is not cleared.';
comment on column backend.prices.credits is 'Of a plan: the credits of one month. Of a pack: what it grants (for show; a purchase carries its own).';
comment on column backend.prices.months is 'How many months one period of a plan lasts.';
comment on column backend.prices.terms is 'The catalogue''s grace_days, priority, yearly (drip, at_once) and grants_without_payment.';

create table public.subscriptions (
  id text primary key,
  user_id uuid not null,
  customer_id text,
  plan_id text not null,
  price_id text not null,
  interval text not null,
  status text not null constraint status_is_known
    check (
      status in (
        'incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'unpaid', 'paused', 'canceled'
      )
    ),
  current_period_start timestamptz,
  current_period_end timestamptz,
  cancel_at_period_end boolean not null,
  cancel_at timestamptz,
  canceled_at timestamptz,
  ended_at timestamptz,
  ticket bigint not null,
  created_at timestamptz not null,
  updated_at timestamptz not null default now()
);
create index subscriptions_user on public.subscriptions (user_id, created_at desc);
create index subscriptions_unfinished on public.subscriptions (updated_at)
  where status not in ('canceled', 'incomplete_expired');
comment on table public.subscriptions is 'Stripe''s subscriptions, mirrored. They show a plan; credits come from its paid invoices.';
comment on column public.subscriptions.status is 'As Stripe names it. canceled and incomplete_expired are final.';

create table public.plan_periods (
  source_key text primary key,
  user_id uuid not null,
  subscription_id text not null,
  plan_id text not null,
  price_id text not null,
  invoice_id text not null,
  credits numeric(14, 3) not null constraint credits_are_positive check (credits > 0),
  months integer not null constraint months_are_positive check (months > 0),
  granted_months integer not null default 0
    constraint granted_months_are_within_months check (granted_months between 0 and months),
  next_month_at timestamptz,
  amount_minor bigint not null constraint amount_is_not_negative check (amount_minor >= 0),
  prorated_minor bigint not null default 0 constraint prorated_is_not_negative check (prorated_minor >= 0),
  starts_at timestamptz not null,
  ends_at timestamptz not null,
  paid_at timestamptz not null,
  grace_days integer not null constraint grace_is_not_negative check (grace_days >= 0),
  priority integer not null,
  created_at timestamptz not null default now()
);
create index plan_periods_user on public.plan_periods (user_id, created_at desc);
create index plan_periods_invoice on public.plan_periods (invoice_id);
create index plan_periods_subscription on public.plan_periods (subscription_id, price_id, starts_at);
create index plan_periods_due on public.plan_periods (next_month_at) where next_month_at is not null;
comment on table public.plan_periods is 'What one line of a paid invoice bought: the credits of a plan''s period, granted at once or month by month.';
comment on column public.plan_periods.source_key is 'in:{invoice}:{line}: the key of its grant; with several months :m1, :m2, … follow.';
comment on column public.plan_periods.credits is 'Credits of each grant.';
comment on column public.plan_periods.months is 'How many grants there will be.';
comment on column public.plan_periods.next_month_at is 'When the next one is due; null when all are granted.';
comment on column public.plan_periods.amount_minor is 'The line''s amount before discounts.';
comment on column public.plan_periods.prorated_minor is 'How much of that amount later invoices credited, for the time not used.';

create table backend.prorations (
  source_key text primary key,
  subscription_id text not null,
  price_id text not null,
  invoice_id text not null,
  amount_minor bigint not null constraint amount_is_positive check (amount_minor > 0),
  starts_at timestamptz not null,
  ends_at timestamptz not null,
  created_at timestamptz not null default now()
);
create index prorations_subscription on backend.prorations (subscription_id, price_id);
comment on table backend.prorations is 'Lines of paid invoices that credit time not used. They count on the period they fall in, also when its invoice comes later.';

create table backend.payments (
  payment_intent_id text primary key,
  purchase_id uuid references public.purchases (id),
  invoice_id text,
  user_id uuid,
  amount_minor bigint not null constraint amount_is_not_negative check (amount_minor >= 0),
  currency text not null,
  reversed_minor bigint not null default 0
    constraint reversed_is_within_amount check (reversed_minor between 0 and amount_minor),
  created_at timestamptz not null default now(),
  constraint pays_one_thing check ((purchase_id is null) <> (invoice_id is null))
);
create index payments_purchase on backend.payments (purchase_id);
create index payments_invoice on backend.payments (invoice_id);
comment on table backend.payments is 'Which payment paid what. Refunds and disputes know only the payment.';
comment on column backend.payments.user_id is 'Null while the invoice is not known: it may come later, and it may be nobody''s of ours.';
comment on column backend.payments.reversed_minor is 'What of it refunds and disputes took back, in total, as last counted.';

create table public.payment_reversals (
  id text primary key,
  kind text not null constraint kind_is_known check (kind in ('refund', 'dispute')),
  payment_intent_id text not null,
  user_id uuid,
  amount_minor bigint not null constraint amount_is_not_negative check (amount_minor >= 0),
  currency text not null,
  status text not null,
  counts boolean not null,
  ticket bigint not null,
  looked_for_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index payment_reversals_user on public.payment_reversals (user_id, created_at desc);
create index payment_reversals_age on public.payment_reversals (created_at, updated_at);
create index payment_reversals_payment on public.payment_reversals (payment_intent_id);
create index payment_reversals_unmatched on public.payment_reversals (looked_for_at nulls first) where user_id is null;
comment on table public.payment_reversals is 'Refunds and disputes, each in its newest state. One may be known before its payment.';
comment on column public.payment_reversals.counts is 'Whether the money is gone in this state.';
comment on column public.payment_reversals.looked_for_at is 'When the sweep last asked Stripe what it paid.';

create table backend.reconciliations (
  name text primary key,
  since timestamptz not null,
  next_at timestamptz not null,
  leased_until timestamptz
);
comment on table backend.reconciliations is 'How far each comparison with Stripe''s own lists has come, and when the next is due.';

do $$
declare
  t text;
begin
  foreach t in array array['subscriptions', 'plan_periods', 'payment_reversals'] loop
    execute format('alter table public.%I enable row level security', t);
    execute format('revoke all on public.%I from public, anon, authenticated, service_role, holdfast_backend', t);
    execute format('grant select on public.%I to authenticated', t);
    execute format(
      'create policy %I on public.%I for select to authenticated using (user_id = (select auth.uid()))',
      'own rows', t);
  end loop;
  foreach t in array array['customers', 'products', 'prices', 'prorations', 'payments', 'reconciliations'] loop
    execute format('alter table backend.%I enable row level security', t);
    execute format('revoke all on backend.%I from public, anon, authenticated, service_role, holdfast_backend', t);
  end loop;
end $$;
revoke all on sequence backend.tickets from public, anon, authenticated, service_role, holdfast_backend;

-- migrate:down
