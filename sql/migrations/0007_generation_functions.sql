-- migrate:up
-- The life of a generation. Lock order: provider id (advisory), generation, reservation, balance, intake.

create function backend.move(
  p_generation uuid, p_to text, p_reason text, p_error_code text default null, p_error_message text default null
) returns void
  language plpgsql security definer set search_path = ''
as $$
declare
  v_from text;
  v_user uuid;
  v_final constant boolean := p_to in ('succeeded', 'failed', 'canceled');
begin
  select status, user_id into v_from, v_user from public.generations where id = p_generation;
  update public.generations
     set status = p_to,
         error_code = p_error_code,
         error_message = p_error_message,
         updated_at = ledger.clock(),
         finished_at = case when v_final then ledger.clock() end
   where id = p_generation;
  update backend.dispatches
     set moved_at = ledger.clock(),
         attempts = 0,
         failures = 0,
         last_error = null,
         leased_until = null,
         lease_owner = null,
         -- whoever notes the provider's id also asks it to cancel; the sweep does if that one dies
         wake_at = case
           when p_to = 'processing' and cancel_requested_at is not null then ledger.clock() + interval '15 seconds' end,
         finished_at = case when v_final then ledger.clock() end
   where generation_id = p_generation;
  insert into public.generation_events (generation_id, user_id, from_status, to_status, reason, created_at)
    values (p_generation, v_user, v_from, p_to, p_reason, ledger.clock());
end $$;
comment on function backend.move(uuid, text, text, text, text) is 'Changes a generation''s state and writes the event. The caller holds the row and has checked the transition.';

create function backend.give_up(p_generation public.generations, p_to text, p_reason text, p_code text, p_message text)
  returns void
  language plpgsql security definer set search_path = ''
as $$
begin
  if ledger.settle(p_generation.reservation_id, 0) <> 'settled' then
    raise exception 'the reservation of generation % was settled by somebody else', p_generation.id;
  end if;
  update public.generations set charged_credits = 0 where id = p_generation.id;
  perform backend.move(p_generation.id, p_to, p_reason, p_code, p_message);
end $$;
comment on function backend.give_up(public.generations, text, text, text, text) is 'Ends an unfinished generation without output: refund and final state together.';

create function backend.end_canceled(p_generation public.generations, p_cancel_reason text, p_reason text) returns void
  language sql security definer set search_path = ''
as $$
  select backend.give_up(
    p_generation,
    case p_cancel_reason when 'user' then 'canceled' else 'failed' end,
    p_reason,
    case p_cancel_reason when 'deadline' then 'deadline_exceeded' when 'operator' then 'refunded_by_operator' end,
    null)
$$;
comment on function backend.end_canceled(public.generations, text, text) is 'Ends an unfinished generation that was to be canceled: canceled when its user wanted it, failed otherwise.';

create function backend.create_generation(
  p_user uuid,
  p_idempotency_key text,
  p_request_hash text,
  p_kind text,
  p_model text,
  p_prompt text,
  p_fields jsonb,
  p_request text,
  p_price jsonb,
  p_cost numeric,
  p_output_count integer,
  p_max_active integer,
  p_per_hour integer,
  p_daily_credits numeric,
  p_max_cost numeric,
  out outcome text,
  out generation_id uuid,
  out status text,
  out cost_credits numeric,
  out available_credits numeric,
  out retry_after_seconds integer
)
  language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_existing public.generations;
  v_free_at timestamptz;
begin
  -- one user's creations in turn: a double click finds the first one's row, and the limits count right
  perform pg_advisory_xact_lock(hashtextextended('generation:' || p_user::text, 0));
  select * into v_existing from public.generations g
   where g.user_id = p_user and g.idempotency_key = p_idempotency_key;
  if found then
    outcome := case when v_existing.request_hash = p_request_hash then 'existing' else 'idempotency_conflict' end;
    generation_id := v_existing.id;
    status := v_existing.status;
    cost_credits := v_existing.cost_credits;
  elsif exists (select from backend.intake i where i.closed_until > ledger.clock()) then
    outcome := 'intake_closed';
    select greatest(1, ceil(extract(epoch from i.closed_until - ledger.clock()))) into retry_after_seconds
      from backend.intake i;
  elsif p_cost > p_max_cost then
    outcome := 'price_changed';
    cost_credits := p_cost;
  elsif (select count(*) from public.generations g where g.user_id = p_user and g.finished_at is null) >= p_max_active
  then
    outcome := 'too_many_active';
    retry_after_seconds := 10;
  else
    -- the start that must leave the hour for one more to fit in; not the oldest if the limit was lowered
    select g.created_at + interval '1 hour' into v_free_at from public.generations g
     where g.user_id = p_user and g.created_at > ledger.clock() - interval '1 hour'
     order by g.created_at desc offset p_per_hour - 1 limit 1;
    if found then
      outcome := 'rate_limited';
    elsif p_daily_credits > 0 then
      -- the newest generation whose credits, with those of all newer ones, leave no room for this one
      select spent.created_at + interval '1 day' into v_free_at
        from (
          select g.created_at,
                 sum(coalesce(g.charged_credits, g.cost_credits)) over (order by g.created_at desc, g.id desc) as total
            from public.generations g
           where g.user_id = p_user and g.created_at > ledger.clock() - interval '1 day'
        ) spent
       where spent.total + p_cost > p_daily_credits
       order by spent.created_at desc limit 1;
      if found or p_cost > p_daily_credits then
        outcome := 'daily_limit';
        cost_credits := p_cost;
      end if;
      if p_cost > p_daily_credits then
        v_free_at := null;  -- never: this one alone is too dear
      end if;
    end if;
    if v_free_at is not null then
      retry_after_seconds := greatest(1, ceil(extract(epoch from v_free_at - ledger.clock())));
    end if;
    if outcome is null then
      generation_id := gen_random_uuid();
      -- refused for credits: nothing is kept, so the same key works after a top-up
      outcome := ledger.reserve(p_user, generation_id, p_cost);
      if outcome = 'reserved' then
        outcome := 'created';
        status := 'queued';
        cost_credits := p_cost;
        insert into public.generations
            (id, user_id, kind, model, prompt, fields, idempotency_key, request_hash, reservation_id, cost_credits,
             output_count, created_at, updated_at)
          values (generation_id, p_user, p_kind, p_model, p_prompt, p_fields, p_idempotency_key, p_request_hash,
                  generation_id, p_cost, p_output_count, ledger.clock(), ledger.clock());
        -- sent_at: whoever created it sends it at once, and may die with the answer
        insert into backend.dispatches (generation_id, request, price, dispatched_at, sent_at, moved_at)
          values (generation_id, p_request, p_price, ledger.clock(), ledger.clock(), ledger.clock());
        insert into public.generation_events (generation_id, user_id, to_status, reason, created_at)
          values (generation_id, p_user, 'queued', 'created', ledger.clock());
        -- the closure is over: this one tries, the others wait for what becomes of it
        update backend.intake i set closed_until = ledger.clock() + interval '30 seconds'
         where i.closed_until <= ledger.clock();
      else
        generation_id := null;
        cost_credits := p_cost;
      end if;
    end if;
  end if;
  available_credits := coalesce((select b.available from public.credit_balances b where b.user_id = p_user), 0);
end $$;
comment on function backend.create_generation(uuid, text, text, text, text, text, jsonb, text, jsonb, numeric, integer, integer, integer, numeric, numeric) is 'Claims the client''s key, checks what the user was shown and the user''s limits, reserves and queues, in one transaction. A daily limit of 0 is none; a null p_max_cost agrees to any price. Outcomes: created, existing, idempotency_conflict, intake_closed, price_changed, insufficient_credits, too_many_active, rate_limited, daily_limit.';

create function backend.find_generation(
  p_user uuid,
  p_idempotency_key text,
  out generation_id uuid,
  out request_hash text,
  out status text,
  out cost_credits numeric,
  out available_credits numeric
)
  language sql stable security definer set search_path = ''
as $$
  select g.id, g.request_hash, g.status, g.cost_credits,
         coalesce((select b.available from public.credit_balances b where b.user_id = p_user), 0)
    from public.generations g where g.user_id = p_user and g.idempotency_key = p_idempotency_key
$$;
comment on function backend.find_generation(uuid, text) is 'The generation this key made before; all null when there is none.';

create function backend.apply_result(
  p_generation uuid, p_status text, p_output_urls jsonb, p_error_code text, p_error_message text, p_reason text
) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  g public.generations;
  v_cancel text;
  v_again uuid;
begin
  select * into g from public.generations where id = p_generation for update;
  select d.cancel_reason into v_cancel from backend.dispatches d where d.generation_id = p_generation;
  if p_status in ('pending', 'processing') then
    if g.status = 'queued' then
      perform backend.move(g.id, 'processing', p_reason);
      return 'applied';
    end if;
  elsif p_status = 'succeeded' then
    -- delivered once: a repeated success changes nothing, whatever became of the first
    update backend.dispatches set output_urls = coalesce(p_output_urls, '[]')
     where generation_id = g.id and output_urls is null;
    if not found then
      return 'duplicate';
    end if;
    if g.status in ('queued', 'processing') then
      perform backend.move(g.id, 'storing', p_reason);
      return 'applied';
    elsif g.status in ('failed', 'canceled') then
      -- refunded already: charged again if the balance allows, and only then delivered
      v_again := gen_random_uuid();
      -- what the user or the operator wanted ended, or the user removed, is not charged again
      if coalesce(v_cancel, 'deadline') = 'deadline' and g.removed_at is null
        and ledger.reserve(g.user_id, v_again, g.cost_credits) = 'reserved'
      then
        update public.generations set reservation_id = v_again, charged_credits = null where id = g.id;
        perform backend.move(g.id, 'storing', 'late success');
        return 'applied';
      end if;
      insert into public.generation_events (generation_id, user_id, from_status, to_status, reason, created_at)
        values (g.id, g.user_id, g.status, g.status, 'late success withheld', ledger.clock());
      return 'withheld';
    end if;
  elsif p_status = 'canceled' and v_cancel is not null then
    if g.status in ('queued', 'processing') then
      perform backend.end_canceled(g, v_cancel, p_reason);
      return 'applied';
    end if;
  elsif p_status in ('failed', 'canceled') then
    if g.status in ('queued', 'processing') then
      perform backend.give_up(g, p_status, p_reason, p_error_code, p_error_message);
      return 'applied';
    end if;
  else
    raise exception 'unknown provider status %', p_status;
  end if;
  return 'ignored';
end $$;
comment on function backend.apply_result(uuid, text, jsonb, text, text, text) is 'What the provider says of a generation, applied to its state. States never run backwards. Outcomes: applied, duplicate, ignored, withheld.';

create function backend.mark_submitted(
  p_generation uuid,
  p_provider_generation_id text,
  out outcome text,
  out status text,
  out is_cancel_wanted boolean
)
  language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_known text;
  d record;
begin
  -- a callback of this provider id either waits for us or is parked and found below
  perform pg_advisory_xact_lock(hashtextextended('provider:' || p_provider_generation_id, 0));
  perform 1 from public.generations g where g.id = p_generation for update;
  select d.provider_generation_id into v_known from backend.dispatches d where d.generation_id = p_generation;
  if not found then
    outcome := 'not_found';
    return;
  elsif v_known is not null then
    outcome := case when v_known = p_provider_generation_id then 'already_submitted' else 'provider_id_conflict' end;
  elsif exists (
    select from backend.dispatches d where d.provider_generation_id = p_provider_generation_id
  ) then
    outcome := 'provider_id_conflict';
  else
    update backend.dispatches
       set provider_generation_id = p_provider_generation_id, submitted_at = ledger.clock()
     where generation_id = p_generation;
    perform backend.apply_result(p_generation, 'processing', null, null, null, 'accepted by the provider');
    for d in
      select i.delivery_id, i.payload from backend.inbox i
       where i.provider_generation_id = p_provider_generation_id and i.outcome = 'parked'
       order by i.received_at
    loop
      update backend.inbox
         set generation_id = p_generation,
             outcome = backend.apply_result(
               p_generation, d.payload ->> 'status', d.payload -> 'output_urls', d.payload ->> 'error_code',
               d.payload ->> 'error_message', 'early callback')
       where delivery_id = d.delivery_id;
    end loop;
    -- the provider takes what was asked for after the closure
    update backend.intake i
       set closed_at = null, closed_until = null, closures = 0, generation_id = null
     where i.closed_at < (select g.created_at from public.generations g where g.id = p_generation);
    outcome := 'submitted';
  end if;
  select g.status, d.cancel_requested_at is not null and g.status not in ('storing', 'succeeded')
    into status, is_cancel_wanted
    from public.generations g join backend.dispatches d on d.generation_id = g.id where g.id = p_generation;
end $$;
comment on function backend.mark_submitted(uuid, text) is 'Notes the provider''s id and applies the callbacks that were quicker. is_cancel_wanted: the provider is to be asked to cancel it at once. Outcomes: submitted, already_submitted, provider_id_conflict, not_found.';

create function backend.mark_refused(p_generation uuid, p_error_code text, p_error_message text) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  g public.generations;
begin
  select * into g from public.generations where id = p_generation for update;
  if not found then
    return 'not_found';
  elsif g.status <> 'queued' then
    return 'ignored';
  end if;
  perform backend.give_up(g, 'failed', 'refused by the provider', p_error_code, p_error_message);
  return 'refunded';
end $$;
comment on function backend.mark_refused(uuid, text, text) is 'The provider refused for good before starting: failed and refunded. Outcomes: refunded, ignored, not_found.';

create function backend.record_callback(
  p_delivery_id text,
  p_event text,
  p_provider_generation_id text,
  p_payload jsonb,
  out outcome text,
  out generation_id uuid,
  out status text
)
  language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  if p_payload ->> 'status' not in ('pending', 'processing', 'succeeded', 'failed', 'canceled') then
    -- not kept: parked, it would make every later mark_submitted fail
    raise exception 'unknown provider status %', p_payload ->> 'status';
  end if;
  perform pg_advisory_xact_lock(hashtextextended('provider:' || coalesce(p_provider_generation_id, ''), 0));
  select d.generation_id into generation_id
    from backend.dispatches d where d.provider_generation_id = p_provider_generation_id;
  insert into backend.inbox
      (delivery_id, event, provider_generation_id, generation_id, payload, outcome, received_at)
    values (p_delivery_id, p_event, p_provider_generation_id, generation_id, p_payload, 'parked', ledger.clock())
    on conflict (delivery_id) do nothing;
  if not found then
    outcome := 'duplicate';
  else
    if p_payload ->> 'status' is null then
      outcome := 'noted';
    elsif generation_id is null then
      outcome := 'parked';
    else
      outcome := backend.apply_result(
        generation_id, p_payload ->> 'status', p_payload -> 'output_urls', p_payload ->> 'error_code',
        p_payload ->> 'error_message', p_event);
    end if;
    update backend.inbox set outcome = record_callback.outcome where delivery_id = p_delivery_id;
  end if;
  select g.status into status from public.generations g where g.id = generation_id;
end $$;
comment on function backend.record_callback(text, text, text, jsonb) is 'Keeps a verified callback and applies it. The payload is normalized: status (null: nothing to apply), output_urls, error_code, error_message. Outcomes: applied, duplicate, ignored, withheld, parked, noted. A status of storing asks the caller to queue settlement, also on a duplicate.';

create function backend.get_settlement(
  p_generation uuid,
  out status text,
  out user_id uuid,
  out kind text,
  out output_count integer,
  out output_urls jsonb
)
  language sql stable security definer set search_path = ''
as $$
  select g.status, g.user_id, g.kind, g.output_count, d.output_urls
    from public.generations g join backend.dispatches d on d.generation_id = g.id where g.id = p_generation
$$;
comment on function backend.get_settlement(uuid) is 'What the settle worker needs: the state and where the outputs are. All null when there is no such generation.';

create function backend.complete_generation(p_generation uuid, p_outputs jsonb, p_error_code text default null)
  returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  g public.generations;
  v_delivered constant integer := jsonb_array_length(p_outputs);
  v_charge numeric;
begin
  select * into g from public.generations where id = p_generation for update;
  if not found then
    return 'not_found';
  elsif g.status in ('succeeded', 'failed', 'canceled') then
    return 'already_final';
  elsif g.status <> 'storing' then
    return 'not_ready';
  elsif v_delivered > g.output_count then
    raise exception 'generation % has % outputs, not %', g.id, g.output_count, v_delivered;
  end if;
  if v_delivered = 0 then
    perform backend.give_up(g, 'failed', 'output lost', coalesce(p_error_code, 'output_lost'), null);
    return 'failed';
  end if;
  v_charge := round(g.cost_credits * v_delivered / g.output_count, 3);
  if ledger.settle(g.reservation_id, v_charge) <> 'settled' then
    raise exception 'the reservation of generation % was settled by somebody else', g.id;
  end if;
  update public.generations set outputs = p_outputs, charged_credits = v_charge where id = g.id;
  perform backend.move(
    g.id, 'succeeded', format('%s of %s stored', v_delivered, g.output_count),
    case when v_delivered < g.output_count then coalesce(p_error_code, 'output_lost') end);
  return 'succeeded';
end $$;
comment on function backend.complete_generation(uuid, jsonb, text) is 'Settles a generation whose outputs are stored: n of m charge n/m of the reservation, none refunds it. Outcomes: succeeded, failed, already_final, not_ready, not_found.';

-- migrate:down
