-- migrate:up
-- What all of billing shares: tickets, the gate, parked events, the cursors of reconciliation.
--
-- Every function that applies an event takes it as jsonb {id, type, created, object_id}; null when reconciliation found
-- the object itself: then there is no gate, and the object's own key keeps it from taking effect twice.
--
-- Lock order, everywhere: event -> purchase -> customer -> payments (by id) -> invoice -> subscriptions (by id)
-- -> plan periods (by key) -> balance; all of one kind before the first of the next. Payments, invoices and
-- subscriptions are locked by name (advisory), because two facts of one thing meet before it has a row. The monthly
-- drip touches many users: it skips periods somebody else holds, so that nobody waits for it and for whom it waits.

create function backend.take_ticket() returns bigint
  language sql volatile security definer set search_path = ''
as $$ select nextval('backend.tickets') $$;
comment on function backend.take_ticket() is 'A number for one reading of a state, taken before the reading.';

create function backend.lock(p_kind text, p_ids text[]) returns void
  language plpgsql security definer set search_path = ''
as $$
declare
  v_id text;
begin
  for v_id in select distinct i from unnest(p_ids) i where i is not null order by i loop
    perform pg_advisory_xact_lock(hashtextextended(p_kind || ':' || v_id, 0));
  end loop;
end $$;
comment on function backend.lock(text, text[]) is 'Locks things by name until the transaction ends, in the order of their names.';

create function backend.at(p_unix text) returns timestamptz
  language sql stable security definer set search_path = ''
as $$ select to_timestamp(p_unix::double precision) $$;
comment on function backend.at(text) is 'The time Stripe means by a number of seconds; null of null.';

create function backend.open_gate(p_event jsonb) returns boolean
  language plpgsql security definer set search_path = ''
as $$
begin
  if coalesce(p_event, 'null') = 'null' then
    return true;
  end if;
  -- waits for a copy under way; the row stays only if the effect does
  insert into backend.stripe_events (id, type, object_id, outcome, created_at, received_at)
    values (p_event ->> 'id', p_event ->> 'type', p_event ->> 'object_id', 'received',
            backend.at(p_event ->> 'created'), ledger.clock())
    on conflict (id) do update
      set outcome = excluded.outcome, received_at = excluded.received_at, attempts = stripe_events.attempts + 1
      where stripe_events.outcome in ('parked', 'unknown_purchase');  -- what was missing may be known now
  return found;
end $$;
comment on function backend.open_gate(jsonb) is 'Whether an event is to take effect; false when it did, or was refused, before.';

create function backend.close_gate(p_event jsonb, p_outcome text) returns text
  language plpgsql security definer set search_path = ''
as $$
begin
  if coalesce(p_event, 'null') <> 'null' then
    update backend.stripe_events
       set outcome = p_outcome,
           parked_at = case p_outcome when 'parked' then coalesce(parked_at, ledger.clock()) else parked_at end
     where id = p_event ->> 'id';
  end if;
  return p_outcome;
end $$;
comment on function backend.close_gate(jsonb, text) is 'Notes what became of an event and returns it.';

create function backend.claim_parked(p_limit integer, p_lease_seconds integer)
  returns table (event_id text, type text, object_id text, created_at timestamptz, parked_at timestamptz)
  language sql volatile security definer set search_path = ''
as $$
  update backend.stripe_events e
     set leased_until = ledger.clock() + p_lease_seconds * interval '1 second'
   where e.id in (
     select s.id from backend.stripe_events s
      where s.outcome = 'parked' and (s.leased_until is null or s.leased_until <= ledger.clock())
      order by s.leased_until nulls first, s.parked_at
      limit p_limit
      for update skip locked)
  returning e.id, e.type, e.object_id, e.created_at, e.parked_at
$$;
comment on function backend.claim_parked(integer, integer) is 'Parked events to try again, those that waited longest since their last try first, for this caller alone until the lease ends.';

create function backend.give_up_parked(p_event_id text) returns text
  language plpgsql security definer set search_path = ''
as $$
begin
  update backend.stripe_events set outcome = 'unknown_purchase' where id = p_event_id and outcome = 'parked';
  return case when found then 'given_up' else 'not_parked' end;
end $$;
comment on function backend.give_up_parked(text) is 'Stops trying a parked event; delivered again by hand, it may still take effect. Outcomes: given_up, not_parked.';

create function backend.parked_older_than(p_seconds integer) returns bigint
  language sql stable security definer set search_path = ''
as $$
  select count(*) from backend.stripe_events
   where outcome = 'parked' and parked_at <= ledger.clock() - p_seconds * interval '1 second'
$$;
comment on function backend.parked_older_than(integer) is 'How many events have been parked for so long.';

create function backend.claim_reconciliation(p_name text, p_every_seconds integer, p_lease_seconds integer)
  returns timestamptz
  language plpgsql security definer set search_path = ''
as $$
declare
  v_since timestamptz;
begin
  insert into backend.reconciliations as r (name, since, next_at, leased_until)
    values (p_name, ledger.clock() - interval '30 days',  -- as far back as Stripe keeps events
            ledger.clock() + p_every_seconds * interval '1 second',
            ledger.clock() + p_lease_seconds * interval '1 second')
    on conflict (name) do update set next_at = excluded.next_at, leased_until = excluded.leased_until
      -- whoever had it and has not finished in time is not coming back
      where coalesce(r.leased_until, r.next_at) <= ledger.clock()
    returning since into v_since;
  return v_since;
end $$;
comment on function backend.claim_reconciliation(text, integer, integer) is 'Since when to compare with Stripe, for this caller alone until the lease ends; null when it is not due.';

create function backend.advance_reconciliation(p_name text, p_since timestamptz) returns void
  language sql volatile security definer set search_path = ''
as $$
  update backend.reconciliations set since = greatest(since, p_since) where name = p_name
$$;
comment on function backend.advance_reconciliation(text, timestamptz) is 'Everything before `since` has been compared, and the caller goes on: if it cannot, the next one begins there.';

create function backend.list_unfinished(p_limit integer, p_idle_seconds integer)
  returns table (kind text, id text)
  language sql stable security definer set search_path = ''
as $$
  select u.kind, u.id
    from (
      select 'subscription' as kind, s.id, s.updated_at from public.subscriptions s
       where s.status not in ('canceled', 'incomplete_expired')
      union all
      -- a refund that succeeded can still fail, a lost dispute can be appealed
      select r.kind, r.id, r.updated_at from public.payment_reversals r
       where r.created_at > ledger.clock() - interval '180 days'
         and (r.kind = 'dispute'
              or r.status in ('pending', 'requires_action')
              or r.created_at > ledger.clock() - interval '30 days')
    ) u
   where u.updated_at <= ledger.clock() - p_idle_seconds * interval '1 second'
   order by u.updated_at
   limit p_limit
$$;
comment on function backend.list_unfinished(integer, integer) is 'Subscriptions, refunds and disputes that may still change, not read from Stripe for so long: those of the longest silence first.';

create function backend.finish_reconciliation(p_name text, p_since timestamptz) returns void
  language sql volatile security definer set search_path = ''
as $$
  update backend.reconciliations set since = greatest(since, p_since), leased_until = null where name = p_name
$$;
comment on function backend.finish_reconciliation(text, timestamptz) is 'Everything before `since` has been compared.';

-- migrate:down
