-- migrate:up
-- A user's requests for media, what the provider says of them, and what was stored.

create table public.assets (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  path text not null unique,
  content_type text not null
    constraint content_type_is_an_image check (content_type in ('image/jpeg', 'image/png', 'image/webp')),
  bytes bigint not null constraint bytes_are_within_limit check (bytes between 1 and 10485760),
  created_at timestamptz not null default now(),
  last_used_at timestamptz,
  removed_at timestamptz
);
create index assets_user on public.assets (user_id, created_at desc);
create index assets_age on public.assets (coalesce(last_used_at, created_at)) where removed_at is null;
create index assets_removed on public.assets (removed_at) where removed_at is not null;
comment on table public.assets is 'A user''s own pictures in the bucket uploads, lent to the provider by signed URL.';
comment on column public.assets.path is 'Object name in the bucket: {user_id}/{asset id}.{extension}.';
comment on column public.assets.last_used_at is 'When it was last lent to a provider.';
comment on column public.assets.removed_at is 'Not to be seen or lent any more; the row goes when its file has.';

create table public.generations (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  status text not null default 'queued' constraint status_is_known
    check (status in ('queued', 'processing', 'storing', 'succeeded', 'failed', 'canceled')),
  kind text not null constraint kind_is_known check (kind in ('image', 'video')),
  model text not null,
  prompt text not null,
  fields jsonb not null default '{}',
  idempotency_key text not null,
  request_hash text not null,
  reservation_id uuid not null unique,
  cost_credits numeric(14, 3) not null constraint cost_is_not_negative check (cost_credits >= 0),
  charged_credits numeric(14, 3),
  output_count integer not null constraint output_count_is_positive check (output_count > 0),
  outputs jsonb not null default '[]',
  error_code text,
  error_message text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  finished_at timestamptz,
  removed_at timestamptz,
  files_removed_at timestamptz,
  constraint one_generation_per_key unique (user_id, idempotency_key)
);
create index generations_library on public.generations (user_id, created_at desc, id desc);
create index generations_active on public.generations (user_id) where finished_at is null;
create index generations_to_clear on public.generations (removed_at)
  where removed_at is not null and files_removed_at is null;
create index generations_refunded on public.generations (finished_at)
  where error_code = 'refunded_by_operator' and files_removed_at is null;
comment on table public.generations is 'One request for media, from reservation to stored outputs.';
comment on column public.generations.status is 'queued -> processing -> storing -> succeeded; or failed, canceled (docs/architecture.md).';
comment on column public.generations.fields is 'The normalized fields the user chose, without the prompt.';
comment on column public.generations.request_hash is 'Hash of what the client asked for; the same key with another request is a conflict.';
comment on column public.generations.reservation_id is 'The generation''s own id, unless a late success had to reserve again.';
comment on column public.generations.charged_credits is 'Null until settled.';
comment on column public.generations.removed_at is 'Gone from the library by the user''s wish. What it cost stays in the ledger.';
comment on column public.generations.files_removed_at is 'When its stored outputs were removed.';
comment on column public.generations.outputs is 'Stored files: [{"n", "path", "content_type", "bytes"}], paths in the bucket outputs.';

create table backend.dispatches (
  generation_id uuid primary key references public.generations (id),
  request text not null,
  price jsonb not null,
  provider_generation_id text unique,
  output_urls jsonb,
  dispatched_at timestamptz not null default now(),
  sent_at timestamptz,
  submitted_at timestamptz,
  cancel_requested_at timestamptz,
  cancel_reason text constraint cancel_reason_is_known check (cancel_reason in ('user', 'deadline', 'operator')),
  moved_at timestamptz not null default now(),
  attempts integer not null default 0,
  failures integer not null default 0,
  last_error text,
  leased_until timestamptz,
  lease_owner text,
  wake_at timestamptz,
  finished_at timestamptz
) with (fillfactor = 70);
create index dispatches_unfinished on backend.dispatches (moved_at) where finished_at is null and wake_at is null;
create index dispatches_waking on backend.dispatches (wake_at) where finished_at is null and wake_at is not null;
create index dispatches_failing on backend.dispatches (failures) where finished_at is null and failures > 0;
comment on table backend.dispatches is 'The provider''s side of a generation, not for users'' eyes.';
comment on column backend.dispatches.request is 'The canonical request, byte for byte what is sent under the generation''s id as idempotency key.';
comment on column backend.dispatches.price is 'The price the reservation was computed from.';
comment on column backend.dispatches.output_urls is 'What the provider delivered; null until it succeeds. Set once, so a second success cannot reopen anything.';
comment on column backend.dispatches.dispatched_at is 'When it was first ready to be sent: the provider keeps the key for 24 hours from then.';
comment on column backend.dispatches.sent_at is 'Since when the provider may have it. Null while it is certain that it has not.';
comment on column backend.dispatches.submitted_at is 'When we learned the provider''s id; the deadline counts from here.';
comment on column backend.dispatches.cancel_requested_at is 'Since when the provider is to cancel it. It may still be too late for that.';
comment on column backend.dispatches.cancel_reason is 'Who wants it canceled: decides whether it ends as canceled or as failed.';
comment on column backend.dispatches.moved_at is 'Last step; the sweep looks at what has not moved for a while.';
comment on column backend.dispatches.attempts is 'How often the sweep took it since it last moved.';
comment on column backend.dispatches.failures is 'How often it broke whoever worked on it since it last moved. From backend.poison_after() on it is left to the operator.';
comment on column backend.dispatches.last_error is 'Why the last try came to nothing.';
comment on column backend.dispatches.leased_until is 'Until then one sweep or one settle worker holds it. A dead one''s lease passes on.';
comment on column backend.dispatches.lease_owner is 'The message whose worker holds it; the same message may take it again.';
comment on column backend.dispatches.wake_at is 'When the sweep is to look again. Null: when it has not moved for a while.';

create table backend.intake (
  id boolean primary key default true constraint intake_is_one_row check (id),
  closed_at timestamptz,
  closed_until timestamptz,
  closures integer not null default 0,
  generation_id uuid
);
insert into backend.intake default values;
comment on table backend.intake is 'Whether new generations are taken. Closed for everybody while the operator is out of credits at the provider.';
comment on column backend.intake.closed_until is 'Null while open. When it passes, one generation goes through to try.';
comment on column backend.intake.closures is 'Closures in a row: each waits twice as long.';
comment on column backend.intake.generation_id is 'The generation the provider refused, to ask whether its price could be paid now. No foreign key: its lock would meet those of the generation.';

create table backend.inbox (
  delivery_id text primary key,
  event text not null,
  provider_generation_id text,
  generation_id uuid,
  payload jsonb not null,
  outcome text not null,
  received_at timestamptz not null default now()
);
create index inbox_age on backend.inbox (received_at);
create index inbox_parked on backend.inbox (provider_generation_id, received_at) where outcome = 'parked';
comment on table backend.inbox is 'Every verified callback, kept. One that came before its generation was known waits as parked.';

create table public.generation_events (
  id bigint generated always as identity primary key,
  generation_id uuid not null references public.generations (id),
  user_id uuid not null,
  from_status text,
  to_status text not null,
  reason text,
  created_at timestamptz not null default now()
);
create index generation_events_generation on public.generation_events (generation_id, id);
create index generation_events_user on public.generation_events (user_id, id);
create index generation_events_age on public.generation_events (created_at);
comment on table public.generation_events is 'One row for each change of a generation''s state.';

-- migrate:down
