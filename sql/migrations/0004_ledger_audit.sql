-- migrate:up
-- The proof, and at the end who may do what with the ledger.
-- The audit is one statement, so one snapshot, so no lock and no false alarm while others write. In plpgsql because
-- that plans it for the user asked for: a single account is read by index.

create function ledger.audit(p_user uuid default null)
  returns table (user_id uuid, invariant text, subject text, expected numeric, found numeric)
  language plpgsql stable security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  with balances as (
    select b.user_id, b.available, b.owed, b.next_expiry_at from public.credit_balances b
     where p_user is null or b.user_id = p_user
  ),
  grants as (
    select g.* from public.credit_grants g where p_user is null or g.user_id = p_user
  ),
  reservations as (
    select r.* from public.credit_reservations r where p_user is null or r.user_id = p_user
  ),
  entries as (
    select e.* from public.credit_ledger e where p_user is null or e.user_id = p_user
  ),
  sums as (
    select e.user_id, sum(e.available_delta) as available, sum(e.owed_delta) as owed from entries e group by 1
  ),
  holdings as (
    select g.user_id, sum(g.remaining) as remaining,
           min(g.expires_at) filter (where g.remaining > 0) as next_expiry_at
      from grants g group by 1
  ),
  per_reservation as (
    select e.reservation_id,
           sum(e.reserved_delta) as reserved,
           -sum(e.reserved_delta) filter (where e.type = 'charge') as charged,
           -sum(e.reserved_delta) filter (where e.type = 'refund') as refunded,
           sum(e.available_delta - e.owed_delta) as returned
      from entries e where e.reservation_id is not null group by 1
  ),
  per_grant as (
    select e.grant_id,
           sum(e.available_delta - e.owed_delta) filter (where e.type = 'grant') as granted,
           -sum(e.available_delta - e.owed_delta) filter (where e.type in ('clawback', 'restore')) as reversed,
           -sum(e.available_delta) filter (where e.type = 'expire') as expired
      from entries e where e.grant_id is not null group by 1
  ),
  steps as (
    select e.user_id, e.id, e.available_after, e.owed_after,
           sum(e.available_delta) over (partition by e.user_id order by e.id) as available,
           sum(e.owed_delta) over (partition by e.user_id order by e.id) as owed
      from entries e
  )
  select b.user_id, 'available is the sum of the entries', null, coalesce(s.available, 0), b.available
    from balances b left join sums s using (user_id) where b.available <> coalesce(s.available, 0)
  union all
  select b.user_id, 'available is what remains of the grants', null, coalesce(h.remaining, 0), b.available
    from balances b left join holdings h using (user_id) where b.available <> coalesce(h.remaining, 0)
  union all
  select b.user_id, 'owed is the sum of the entries', null, coalesce(s.owed, 0), b.owed
    from balances b left join sums s using (user_id) where b.owed <> coalesce(s.owed, 0)
  union all
  select b.user_id, 'debt leaves nothing available', null, 0, b.available
    from balances b where b.owed > 0 and b.available > 0
  union all
  select b.user_id, 'no expiry is overlooked', b.next_expiry_at::text, null, null
    from balances b join holdings h using (user_id) where b.next_expiry_at > h.next_expiry_at
  union all
  select s.user_id, 'entries and grants have a balance', null, null, null
    from (select e.user_id from entries e union select g.user_id from grants g) s
   where not exists (select from public.credit_balances b where b.user_id = s.user_id)
     and exists (
       select from entries e where e.user_id = s.user_id and (e.available_delta <> 0 or e.owed_delta <> 0))
  union all
  select r.user_id, 'a reservation is reserved until it is settled', r.id::text,
         case when r.settled_at is null then r.amount else 0 end, p.reserved
    from reservations r left join per_reservation p on p.reservation_id = r.id
   where p.reserved is distinct from case when r.settled_at is null then r.amount else 0 end
      or (r.settled_at is null) <> (r.charged is null)
  union all
  select r.user_id, 'charge and refund make the amount', r.id::text, r.amount,
         coalesce(p.charged, 0) + coalesce(p.refunded, 0)
    from reservations r left join per_reservation p on p.reservation_id = r.id
   where r.settled_at is not null
     and (coalesce(p.charged, 0) <> r.charged or coalesce(p.refunded, 0) <> r.amount - r.charged)
  union all
  select r.user_id, 'what a user paid is what was charged', r.id::text, -coalesce(r.charged, r.amount), p.returned
    from reservations r join per_reservation p on p.reservation_id = r.id
   where p.returned <> -coalesce(r.charged, r.amount)
  union all
  select r.user_id, 'a reservation knows its grants', r.id::text, r.amount,
         coalesce((select sum(a) from unnest(r.grant_amounts) a), 0)
    from reservations r
   where r.amount <> coalesce((select sum(a) from unnest(r.grant_amounts) a), 0)
      or cardinality(r.grant_ids) <> cardinality(r.grant_amounts)
  union all
  select e.user_id, 'an entry''s reservation exists', e.id::text, null, null
    from entries e
   where e.reservation_id is not null
     and not exists (
       select from public.credit_reservations r where r.id = e.reservation_id and r.user_id = e.user_id)
  union all
  select g.user_id, 'a grant is granted once and in full', g.source_key, g.amount, coalesce(p.granted, 0)
    from grants g left join per_grant p on p.grant_id = g.id
   where coalesce(p.granted, 0) <> case g.source when 'restored' then 0 else g.amount end
  union all
  select g.user_id, 'a grant''s expiry is entered', g.source_key, g.expired, coalesce(p.expired, 0)
    from grants g left join per_grant p on p.grant_id = g.id where g.expired <> coalesce(p.expired, 0)
  union all
  select g.user_id, 'a grant''s reversals are entered', g.source_key, g.reversed - g.absorbed, coalesce(p.reversed, 0)
    from grants g left join per_grant p on p.grant_id = g.id
   where g.reversed - g.absorbed <> coalesce(p.reversed, 0)
  union all
  select s.user_id, 'each entry carries the balance after it', s.id::text, s.available, s.available_after
    from steps s
   where s.available_after is not null and (s.available_after <> s.available or s.owed_after <> s.owed);
end $$;
comment on function ledger.audit(uuid) is 'A row for each violated invariant, of one user or of all; none when the books are right.';

-- Who may do what with the ledger. A user reads their own rows and writes none; right under both of Supabase's default
-- privileges: what the API roles may do is taken away first, then granted by name.
do $$
declare
  t text;
begin
  foreach t in array array[
    'credit_balances', 'credit_grants', 'credit_reservations', 'credit_ledger', 'credit_reversals'
  ] loop
    execute format('alter table public.%I enable row level security', t);
    execute format('revoke all on public.%I from public, anon, authenticated, service_role, holdfast_backend', t);
    -- credit_reversals is bookkeeping: nobody's rows, nobody's to read
    if t <> 'credit_reversals' then
      execute format('grant select on public.%I to authenticated', t);
      execute format(
        'create policy %I on public.%I for select to authenticated using (user_id = (select auth.uid()))',
        'own rows', t);
    end if;
  end loop;
end $$;
revoke all on sequence public.credit_grants_id_seq, public.credit_ledger_id_seq from anon, authenticated, service_role;

revoke execute on all functions in schema ledger from public, anon, authenticated, service_role;
grant execute on function
  ledger.grant(uuid, text, text, numeric, timestamptz, integer, text),
  ledger.reserve(uuid, uuid, numeric),
  ledger.settle(uuid, numeric),
  ledger.reverse(text, text, numeric),
  ledger.expire_due(integer),
  ledger.audit(uuid)
to holdfast_backend;

-- migrate:down
