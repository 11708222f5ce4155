-- migrate:up
-- What users remove and what nobody needs any more. A row is marked first, its files go next, the mark is settled last:
-- a worker that dies in between leaves work that the sweep finds, never a file without a row.

create table backend.removal_leases (
  kind text not null,
  id uuid not null,
  leased_until timestamptz not null,
  primary key (kind, id)
);
comment on table backend.removal_leases is 'Whose files are being removed just now, so that two sweeps share the work.';
alter table backend.removal_leases enable row level security;
revoke all on backend.removal_leases from public, anon, authenticated, service_role, holdfast_backend;

create function backend.remove_asset(p_user uuid, p_asset uuid, out outcome text, out path text)
  language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  update public.assets a set removed_at = coalesce(a.removed_at, ledger.clock())
   where a.id = p_asset and a.user_id = p_user
   returning a.path into path;
  outcome := case when found then 'removed' else 'not_found' end;
end $$;
comment on function backend.remove_asset(uuid, uuid) is 'Marks a user''s own picture as removed and says where its file is. Outcomes: removed, not_found.';

create function backend.remove_generation(
  p_user uuid, p_generation uuid, out outcome text, out paths text[], out folder text
)
  language plpgsql security definer set search_path = ''
as $$
declare
  g public.generations;
begin
  select * into g from public.generations where id = p_generation and user_id = p_user for update;
  if not found then
    outcome := 'not_found';
  elsif g.finished_at is null then
    outcome := 'not_final';
  else
    update public.generations set removed_at = coalesce(removed_at, ledger.clock()) where id = g.id;
    outcome := 'removed';
    paths := array(select o ->> 'path' from jsonb_array_elements(g.outputs) o);
    folder := case when g.outputs = '[]' then g.user_id || '/' || g.id end;
  end if;
end $$;
comment on function backend.remove_generation(uuid, uuid) is 'Takes a finished generation out of its user''s library and says where its files are; in the whole folder where none is on record. Outcomes: removed, not_final, not_found.';

create function backend.finish_removal(p_kind text, p_id uuid) returns void
  language plpgsql security definer set search_path = ''
as $$
begin
  if p_kind = 'asset' then
    delete from public.assets where id = p_id and removed_at is not null;
  elsif p_kind = 'generation' then
    update public.generations set files_removed_at = ledger.clock(), outputs = '[]'
     where id = p_id
       and (removed_at is not null or error_code = 'refunded_by_operator')
       and files_removed_at is null;
  else
    raise exception 'unknown kind %', p_kind;
  end if;
  delete from backend.removal_leases where kind = p_kind and id = p_id;
end $$;
comment on function backend.finish_removal(text, uuid) is 'The files of this asset or generation are gone.';

create function backend.mark_unused_assets(p_days integer, p_limit integer, p_dry_run boolean) returns integer
  language plpgsql security definer set search_path = ''
as $$
declare
  v_before constant timestamptz := ledger.clock() - make_interval(days => p_days);
  v_count integer;
begin
  if p_dry_run then
    select count(*) into v_count from public.assets
     where removed_at is null and coalesce(last_used_at, created_at) < v_before;
  else
    with due as (
      select id from public.assets
       where removed_at is null and coalesce(last_used_at, created_at) < v_before
       order by coalesce(last_used_at, created_at)
       limit p_limit
       for update skip locked
    )
    update public.assets a set removed_at = ledger.clock() from due where a.id = due.id;
    get diagnostics v_count = row_count;
  end if;
  return v_count;
end $$;
comment on function backend.mark_unused_assets(integer, integer, boolean) is 'Marks pictures that were not lent for so many days as removed and returns how many; a dry run only counts.';

create function backend.claim_removals(p_limit integer, p_idle_seconds integer, p_lease_seconds integer)
  returns table (kind text, id uuid, bucket text, paths text[], folder text)
  language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
    with due as (
      select 'asset' as kind, a.id, 'uploads' as bucket, array[a.path] as paths, null as folder, a.removed_at
        from public.assets a
       where a.removed_at <= ledger.clock() - make_interval(secs => p_idle_seconds)
      union all
      select 'generation', g.id, 'outputs', array(select o ->> 'path' from jsonb_array_elements(g.outputs) o),
             case when g.outputs = '[]' then g.user_id || '/' || g.id end, g.removed_at
        from public.generations g
       where g.files_removed_at is null and g.removed_at <= ledger.clock() - make_interval(secs => p_idle_seconds)
      union all
      -- it may have been poisoned between two of its files: what was stored is nobody's, since nobody paid for it
      select 'generation', g.id, 'outputs', '{}', g.user_id || '/' || g.id, g.finished_at
        from public.generations g
       where g.error_code = 'refunded_by_operator' and g.files_removed_at is null and g.removed_at is null
         and g.finished_at <= ledger.clock() - make_interval(secs => p_idle_seconds)
    ),
    claimed as (
      insert into backend.removal_leases as l (kind, id, leased_until)
      select d.kind, d.id, ledger.clock() + make_interval(secs => p_lease_seconds)
        from (
          select * from due
           where not exists (
             select from backend.removal_leases held
              where held.kind = due.kind and held.id = due.id and held.leased_until > ledger.clock())
           order by due.removed_at
           limit p_limit
        ) d
      on conflict (kind, id) do update set leased_until = excluded.leased_until
        where l.leased_until <= ledger.clock()
      returning l.kind, l.id
    )
    select d.kind, d.id, d.bucket, d.paths, d.folder from due d join claimed c on c.kind = d.kind and c.id = d.id;
end $$;
comment on function backend.claim_removals(integer, integer, integer) is 'Leases what was removed, or refunded by the operator, a while ago and may still have files: at `paths`, or anything in `folder`. kind: asset or generation.';

create function backend.remove_old_events(p_days integer, p_limit integer, p_dry_run boolean)
  returns table (what text, rows bigint)
  language plpgsql security definer set search_path = ''
as $$
declare
  v_before constant timestamptz := ledger.clock() - make_interval(days => p_days);
  -- younger than this they may still be delivered again, and must be known as seen
  v_floor constant interval := interval '31 days';
begin
  if ledger.clock() - v_before < v_floor then
    raise exception 'events are kept for 31 days at least: Stripe may repeat one for 30' using errcode = '22023';
  end if;
  if p_dry_run then
    return query
      select 'generation_events', count(*) from public.generation_events e where e.created_at < v_before
      union all
      select 'inbox', count(*) from backend.inbox i where i.received_at < v_before and i.outcome <> 'parked'
      union all
      select 'stripe_events', count(*) from backend.stripe_events s
       where s.received_at < v_before and s.outcome <> 'parked';
    return;
  end if;
  what := 'generation_events';
  delete from public.generation_events where id in (
    select e.id from public.generation_events e where e.created_at < v_before order by e.id limit p_limit);
  get diagnostics rows = row_count;
  return next;
  what := 'inbox';
  delete from backend.inbox where delivery_id in (
    select i.delivery_id from backend.inbox i
     where i.received_at < v_before and i.outcome <> 'parked' order by i.received_at limit p_limit);
  get diagnostics rows = row_count;
  return next;
  what := 'stripe_events';
  delete from backend.stripe_events where id in (
    select s.id from backend.stripe_events s
     where s.received_at < v_before and s.outcome <> 'parked' order by s.received_at limit p_limit);
  get diagnostics rows = row_count;
  return next;
end $$;
comment on function backend.remove_old_events(integer, integer, boolean) is 'Removes events older than so many days (31 at least), up to a limit each, and says how many; a dry run only counts. The ledger is never touched.';

revoke execute on all functions in schema backend from public, anon, authenticated, service_role;
grant execute on function
  backend.remove_asset(uuid, uuid),
  backend.remove_generation(uuid, uuid),
  backend.finish_removal(text, uuid),
  backend.mark_unused_assets(integer, integer, boolean),
  backend.claim_removals(integer, integer, integer),
  backend.remove_old_events(integer, integer, boolean)
to holdfast_backend;

-- migrate:down
