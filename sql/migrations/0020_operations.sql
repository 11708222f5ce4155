-- migrate:up
-- What an operator does by hand. Not for the functions' role: `make ops` runs as the owner of the database.

create function backend.list_stuck(p_idle_seconds integer, p_limit integer)
  returns table (
    generation_id uuid, user_id uuid, status text, kind text, reason text, since timestamptz, attempts integer,
    failures integer, last_error text, wake_at timestamptz, provider_generation_id text, reserved numeric
  )
  language sql stable security definer set search_path = ''
as $$
  select d.generation_id, g.user_id, g.status, g.kind,
         case
           when d.failures >= backend.poison_after() then 'poisoned'
           when d.cancel_requested_at is not null then 'cancel of the ' || d.cancel_reason || ' unanswered'
           when g.status = 'storing' then 'outputs not stored'
           when g.status = 'processing' then 'provider has not finished'
           when d.sent_at is null then 'provider takes nothing'
           else 'submission unknown'
         end,
         d.moved_at, d.attempts, d.failures, d.last_error, d.wake_at, d.provider_generation_id, g.cost_credits
    from backend.dispatches d join public.generations g on g.id = d.generation_id
   where d.finished_at is null
     and (d.moved_at <= ledger.clock() - make_interval(secs => p_idle_seconds) or d.attempts > 0 or d.failures > 1)
   order by d.failures >= backend.poison_after() desc, d.moved_at
   limit p_limit
$$;
comment on function backend.list_stuck(integer, integer) is 'Unfinished generations that do not move, and why: poisoned ones first, then the longest stuck.';

create function backend.retry_generation(p_generation uuid) returns text
  language plpgsql security definer set search_path = ''
as $$
begin
  update backend.dispatches
     set attempts = 0, failures = 0, leased_until = null, lease_owner = null, wake_at = ledger.clock()
   where generation_id = p_generation and finished_at is null;
  return case when found then 'waking' else 'ignored' end;
end $$;
comment on function backend.retry_generation(uuid) is 'Makes the next sweep take a generation, however often it failed. Outcomes: waking, ignored (finished or unknown).';

create function backend.refund_generation(p_generation uuid) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  g public.generations;
  d backend.dispatches;
begin
  select * into g from public.generations where id = p_generation for update;
  if not found or g.status in ('succeeded', 'failed', 'canceled') then
    return 'ignored';
  end if;
  update backend.dispatches
     set cancel_requested_at = coalesce(cancel_requested_at, ledger.clock()),
         -- what its user canceled ends as canceled; what is stored ends by what is there
         cancel_reason = case when g.status <> 'storing' and cancel_reason = 'user' then 'user' else 'operator' end
   where generation_id = p_generation
  returning * into d;
  if d.failures >= backend.poison_after() or (g.status = 'queued' and d.sent_at is null) then
    perform backend.end_canceled(g, d.cancel_reason, 'refunded by the operator');
    return 'refunded';
  end if;
  perform backend.retry_generation(p_generation);
  return 'asking';
end $$;
comment on function backend.refund_generation(uuid) is 'Ends a generation for the operator. The next sweep cancels at the provider first, or settles with what is stored; what is poisoned or was never sent is refunded at once. Outcomes: refunded, asking, ignored.';

revoke execute on all functions in schema backend from public, anon, authenticated, service_role;

-- migrate:down
