-- migrate:up
-- What ends a generation that does not end by itself: replays, cancels, leases, the sweep's look at it, and the intake.

create function backend.poison_after() returns integer
  language sql immutable security definer set search_path = ''
as $$ select 10 $$;
comment on function backend.poison_after() is 'After so many failures the sweep and the settle worker leave a generation to the operator.';

create function backend.begin_dispatch(p_generation uuid, out outcome text, out is_replay boolean)
  language plpgsql security definer set search_path = ''
as $$
declare
  v_status text;
  d backend.dispatches;
begin
  select g.status into v_status from public.generations g where g.id = p_generation for update;
  select * into d from backend.dispatches where generation_id = p_generation;
  is_replay := d.sent_at is not null;
  if v_status = 'queued' and d.provider_generation_id is null then
    outcome := 'send';
    update backend.dispatches set sent_at = coalesce(sent_at, ledger.clock()) where generation_id = p_generation;
  else
    outcome := 'not_queued';
  end if;
end $$;
comment on function backend.begin_dispatch(uuid) is 'From now on the provider may have it: a cancel has to ask. is_replay: it may have had it before. Outcomes: send, not_queued.';

create function backend.mark_unsent(p_generation uuid, p_seconds integer, p_error text) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  g public.generations;
  v_cancel text;
begin
  select * into g from public.generations where id = p_generation for update;
  if not found or g.status <> 'queued' then
    return 'ignored';
  end if;
  -- by the id alone: asked for rows without a provider's id, the planner may walk all that ever were
  update backend.dispatches
     set sent_at = null,
         leased_until = null,
         wake_at = ledger.clock() + make_interval(secs => p_seconds),
         last_error = p_error
   where generation_id = p_generation
  returning cancel_reason into v_cancel;
  if v_cancel is not null then
    perform backend.end_canceled(g, v_cancel, 'never sent');
    return 'canceled';
  end if;
  return 'waiting';
end $$;
comment on function backend.mark_unsent(uuid, integer, text) is 'The provider took nothing and is to be asked again in so many seconds. Only when no earlier call may have been accepted. Outcomes: waiting, canceled (wanted meanwhile), ignored.';

create function backend.request_cancel(
  p_user uuid, p_generation uuid, out outcome text, out status text, out provider_generation_id text
)
  language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  g public.generations;
  d backend.dispatches;
begin
  select * into g from public.generations where id = p_generation and user_id = p_user for update;
  if not found then
    outcome := 'not_found';
    return;
  end if;
  select * into d from backend.dispatches where generation_id = p_generation;
  provider_generation_id := d.provider_generation_id;
  if g.status = 'canceled' then
    outcome := 'canceled';
  elsif g.status not in ('queued', 'processing') then
    outcome := 'not_cancelable';
  elsif g.status = 'queued' and d.sent_at is null then
    -- certainly not with the provider: nobody has to be asked
    update backend.dispatches set cancel_requested_at = ledger.clock(), cancel_reason = 'user'
     where generation_id = p_generation;
    perform backend.end_canceled(g, 'user', 'canceled before it was sent');
    outcome := 'canceled';
  else
    outcome := 'cancel_requested';
    update backend.dispatches
       set cancel_requested_at = coalesce(cancel_requested_at, ledger.clock()),
           cancel_reason = 'user',
           -- whoever asked also asks the provider; the sweep does if that one dies
           wake_at = least(wake_at, ledger.clock() + interval '15 seconds')
     where generation_id = p_generation;
    if d.cancel_requested_at is null then
      insert into public.generation_events (generation_id, user_id, from_status, to_status, reason, created_at)
        values (g.id, g.user_id, g.status, g.status, 'cancel requested', ledger.clock());
    end if;
  end if;
  select g.status into status from public.generations g where g.id = p_generation;
end $$;
comment on function backend.request_cancel(uuid, uuid) is 'A user wants a generation canceled. What the provider may have is only marked: ask it, then record what it said. Outcomes: canceled (now or before), cancel_requested, not_cancelable, not_found.';

create function backend.request_stop(p_generation uuid, p_reason text) returns void
  language sql security definer set search_path = ''
as $$
  update backend.dispatches
     set cancel_requested_at = ledger.clock(), cancel_reason = p_reason
   where generation_id = p_generation and finished_at is null and cancel_requested_at is null
$$;
comment on function backend.request_stop(uuid, text) is 'Notes that the provider is to be asked to stop, because of a deadline or by the operator. A cancel of the user''s stays the user''s.';

create function backend.begin_settlement(p_generation uuid, p_owner text, p_lease_seconds integer) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  v_status text;
  d backend.dispatches;
begin
  select g.status into v_status from public.generations g where g.id = p_generation for update;
  if not found then
    return 'not_found';
  elsif v_status <> 'storing' then
    return case when v_status in ('queued', 'processing') then 'not_ready' else 'already_final' end;
  end if;
  select * into d from backend.dispatches where generation_id = p_generation;
  if d.failures >= backend.poison_after() then
    return 'poisoned';
  elsif d.leased_until > ledger.clock() and d.lease_owner is distinct from p_owner then
    return 'busy';
  end if;
  -- counted before the work: a worker that dies of it cannot count
  update backend.dispatches
     set leased_until = ledger.clock() + make_interval(secs => p_lease_seconds),
         lease_owner = p_owner,
         failures = failures + 1,
         last_error = 'the settle worker did not come back'
   where generation_id = p_generation;
  return 'leased';
end $$;
comment on function backend.begin_settlement(uuid, text, integer) is 'Leases a generation to one settle worker; the owner is its message, which may take it again when it comes back. Outcomes: leased, busy, poisoned, not_ready, already_final, not_found.';

create function backend.end_settlement(p_generation uuid, p_owner text, p_error text, p_is_failure boolean) returns void
  language sql security definer set search_path = ''
as $$
  update backend.dispatches
     set leased_until = null,
         lease_owner = null,
         failures = failures - case when p_is_failure then 0 else 1 end,
         last_error = p_error
   where generation_id = p_generation and lease_owner = p_owner and finished_at is null
$$;
comment on function backend.end_settlement(uuid, text, text, boolean) is 'Gives a generation back that could not be settled this time. What may mend itself (storage is away) is no failure.';

create function backend.claim_stuck(p_limit integer, p_idle_seconds integer, p_lease_seconds integer)
  returns table (
    generation_id uuid, status text, kind text, request text, model text, provider_generation_id text,
    attempts integer, age_seconds numeric, running_seconds numeric, cancel_reason text
  )
  language sql security definer set search_path = ''
as $$
  with waking as (
    select d.generation_id from backend.dispatches d
     where d.finished_at is null
       and d.wake_at <= ledger.clock()
       and (d.leased_until is null or d.leased_until <= ledger.clock())
       and d.failures < backend.poison_after()
     order by d.wake_at
     limit p_limit
     for update skip locked
  ),
  idle as (
    select d.generation_id from backend.dispatches d
     where d.finished_at is null
       and d.wake_at is null
       and d.moved_at <= ledger.clock() - make_interval(secs => p_idle_seconds)
       and (d.leased_until is null or d.leased_until <= ledger.clock())
       and d.failures < backend.poison_after()
     order by d.moved_at
     limit p_limit
     for update skip locked
  ),
  due as (
    select generation_id from waking union all select generation_id from idle limit p_limit
  ),
  claimed as (
    update backend.dispatches d
       set leased_until = ledger.clock() + make_interval(secs => p_lease_seconds),
           lease_owner = null,
           attempts = d.attempts + 1
      from due where d.generation_id = due.generation_id
    returning d.*
  )
  select c.generation_id, g.status, g.kind, c.request, g.model, c.provider_generation_id, c.attempts,
         extract(epoch from ledger.clock() - c.dispatched_at),
         extract(epoch from ledger.clock() - coalesce(c.submitted_at, c.dispatched_at)),
         c.cancel_reason
    from claimed c join public.generations g on g.id = c.generation_id
   order by c.dispatched_at
$$;
comment on function backend.claim_stuck(integer, integer, integer) is 'Leases unfinished generations that have not moved for a while, or that are to be looked at now. Sweeps that overlap get different ones; a dead sweep''s lease passes on. What failed too often is left to the operator.';

create function backend.postpone(
  p_generation uuid, p_seconds integer, p_error text default null, p_is_failure boolean default false
) returns void
  language sql security definer set search_path = ''
as $$
  update backend.dispatches
     set leased_until = null,
         wake_at = ledger.clock() + make_interval(secs => p_seconds),
         failures = failures + case when p_is_failure then 1 else 0 end,
         last_error = coalesce(p_error, last_error)
   where generation_id = p_generation and finished_at is null
$$;
comment on function backend.postpone(uuid, integer, text, boolean) is 'Leaves a generation alone for so many seconds. A failure is what will not mend itself.';

create function backend.record_provider_state(
  p_generation uuid,
  p_status text,
  p_output_urls jsonb,
  p_error_code text,
  p_error_message text,
  out outcome text,
  out status text
)
  language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  outcome := backend.apply_result(
    p_generation, p_status, p_output_urls, p_error_code, p_error_message, 'asked by the sweep');
  select g.status into status from public.generations g where g.id = p_generation;
end $$;
comment on function backend.record_provider_state(uuid, text, jsonb, text, text) is 'What the provider answered when asked; the same path as a callback. Outcomes as backend.apply_result.';

create function backend.abandon(p_generation uuid, p_error_code text) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  g public.generations;
  v_cancel text;
begin
  select * into g from public.generations where id = p_generation for update;
  if not found or g.status not in ('queued', 'processing') then
    return 'ignored';
  end if;
  select d.cancel_reason into v_cancel from backend.dispatches d where d.generation_id = p_generation;
  if v_cancel = 'user' then
    perform backend.end_canceled(g, v_cancel, 'given up by the sweep');
  else
    perform backend.give_up(g, 'failed', 'given up by the sweep', p_error_code, null);
  end if;
  return 'refunded';
end $$;
comment on function backend.abandon(uuid, text) is 'Refunds a generation the provider knows nothing of. Only after the provider was asked. Outcomes: refunded, ignored.';

create function backend.count_poisoned() returns bigint
  language sql stable security definer set search_path = ''
as $$
  select count(*) from backend.dispatches where finished_at is null and failures > 0 and failures >= backend.poison_after()
$$;
comment on function backend.count_poisoned() is 'How many generations failed so often that they are left to the operator.';

create function backend.close_intake(p_generation uuid, out closed_until timestamptz, out closures integer)
  language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  -- many are refused at the same moment: only what was asked for after the last closure closes anew
  update backend.intake i
     set closed_at = ledger.clock(),
         closures = i.closures + 1,
         closed_until = ledger.clock() + make_interval(secs => least(60 * 2 ^ least(i.closures, 10), 900)),
         generation_id = p_generation
   where i.closed_at is null
      or i.closed_until <= ledger.clock()
      or i.closed_at < (select g.created_at from public.generations g where g.id = p_generation);
  select i.closed_until, i.closures into closed_until, closures from backend.intake i;
end $$;
comment on function backend.close_intake(uuid) is 'Stops taking new generations: the provider refused this one because the operator is out of credits. A minute, twice as long each time in a row, up to a quarter of an hour.';

create function backend.get_intake(
  out is_closed boolean,
  out closed_at timestamptz,
  out closed_until timestamptz,
  out closures integer,
  out model text,
  out request text
)
  language sql stable security definer set search_path = ''
as $$
  select i.closed_at is not null, i.closed_at, i.closed_until, i.closures, g.model, d.request
    from backend.intake i
    left join public.generations g on g.id = i.generation_id
    left join backend.dispatches d on d.generation_id = i.generation_id
$$;
comment on function backend.get_intake() is 'Whether new generations are taken, and the request that closed the intake.';

create function backend.open_intake() returns boolean
  language plpgsql security definer set search_path = ''
as $$
begin
  update backend.intake set closed_at = null, closed_until = null, closures = 0, generation_id = null
   where closed_at is not null;
  return found;
end $$;
comment on function backend.open_intake() is 'Takes new generations again; says whether it was closed.';

revoke execute on all functions in schema backend from public, anon, authenticated, service_role;
grant execute on function
  backend.claim_stuck(integer, integer, integer),
  backend.postpone(uuid, integer, text, boolean),
  backend.begin_dispatch(uuid),
  backend.mark_unsent(uuid, integer, text),
  backend.request_cancel(uuid, uuid),
  backend.request_stop(uuid, text),
  backend.count_poisoned(),
  backend.close_intake(uuid),
  backend.get_intake(),
  backend.open_intake(),
  backend.begin_settlement(uuid, text, integer),
  backend.end_settlement(uuid, text, text, boolean),
  backend.record_provider_state(uuid, text, jsonb, text, text),
  backend.abandon(uuid, text)
to holdfast_backend;

-- migrate:down
