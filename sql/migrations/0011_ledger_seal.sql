-- migrate:up
-- Tamper evidence. Entries are sealed in batches, each batch hashed together with the one before, so that a later
-- change, removal or insertion of a sealed entry is found and named. Writing an entry costs nothing for it.

create table ledger.seals (
  id bigint generated always as identity primary key,
  last_entry_id bigint not null unique,
  entry_ids bigint[] not null,
  entry_hashes bytea[] not null,
  hash bytea not null,
  sealed_at timestamptz not null default now(),
  constraint ids_and_hashes_pair check (cardinality(entry_ids) = cardinality(entry_hashes))
);
comment on table ledger.seals is 'One row a batch of sealed entries. `hash` covers the batch and the hash before it.';
comment on column ledger.seals.last_entry_id is 'The batch holds every entry after the previous batch''s last one, up to this.';
comment on column ledger.seals.entry_hashes is 'One SHA-256 for each of entry_ids, so that a difference can be named.';

create table ledger.seal_horizon (
  only_row boolean primary key default true constraint one_row check (only_row),
  last_entry_id bigint not null,
  snapshot_xmax xid8 not null
);
comment on table ledger.seal_horizon is 'How far the next seal may reach: when all transactions begun before snapshot_xmax have ended, no entry up to last_entry_id can appear any more.';

create function ledger.entry_hash(e public.credit_ledger) returns bytea
  language sql immutable set search_path = ''
as $$
  -- every column, with its length, in a form that depends on no setting of the session
  select sha256(convert_to(string_agg(coalesce(length(v)::text || ':' || v, '-'), ',' order by n), 'UTF8'))
    from unnest(array[
      e.id::text, e.user_id::text, e.type, e.available_delta::text, e.reserved_delta::text, e.owed_delta::text,
      e.available_after::text, e.owed_after::text, e.reservation_id::text, e.grant_id::text, e.key, e.description,
      extract(epoch from e.created_at)::text]) with ordinality as columns (v, n)
$$;
comment on function ledger.entry_hash(public.credit_ledger) is 'SHA-256 over all columns of an entry.';

create function ledger.batch_hash(p_previous bytea, p_ids bigint[], p_hashes bytea[]) returns bytea
  language sql immutable set search_path = ''
as $$
  select sha256(coalesce(p_previous, '') || convert_to(p_ids::text, 'UTF8')
                || coalesce((select string_agg(h, '' order by n) from unnest(p_hashes) with ordinality as t (h, n)), ''))
$$;
comment on function ledger.batch_hash(bytea, bigint[], bytea[]) is 'SHA-256 over the hash before, the ids and the entries'' hashes of one batch.';

create function ledger.seal(out sealed integer, out seal_id bigint, out seal_hash text)
  language plpgsql security definer set search_path = ''
as $$
declare
  v_most constant integer := 20000;  -- well inside the role's statement_timeout, however much has piled up
  v_upto bigint;
  v_previous ledger.seals;
  v_horizon ledger.seal_horizon;
  v_ids bigint[];
  v_hashes bytea[];
  v_hash bytea;
begin
  sealed := 0;
  -- one sealer at a time; a second one has nothing to do
  if not pg_try_advisory_xact_lock(hashtextextended('ledger.seal', 0)) then
    return;
  end if;
  select * into v_previous from ledger.seals order by id desc limit 1;
  select * into v_horizon from ledger.seal_horizon;
  if found and v_horizon.last_entry_id > coalesce(v_previous.last_entry_id, 0)
     and pg_snapshot_xmin(pg_current_snapshot()) >= v_horizon.snapshot_xmax
  then
    v_upto := coalesce(
      (select e.id from public.credit_ledger e
        where e.id > coalesce(v_previous.last_entry_id, 0) and e.id <= v_horizon.last_entry_id
        order by e.id offset v_most - 1 limit 1),
      v_horizon.last_entry_id);
    select array_agg(e.id order by e.id), array_agg(ledger.entry_hash(e) order by e.id)
      into v_ids, v_hashes
      from public.credit_ledger e
     where e.id > coalesce(v_previous.last_entry_id, 0) and e.id <= v_upto;
    if v_ids is not null then
      v_hash := ledger.batch_hash(v_previous.hash, v_ids, v_hashes);
      insert into ledger.seals (last_entry_id, entry_ids, entry_hashes, hash, sealed_at)
        values (v_upto, v_ids, v_hashes, v_hash, ledger.clock())
        returning id into v_previous.id;
      v_previous.hash := v_hash;
      sealed := cardinality(v_ids);
    end if;
  end if;
  -- an entry draws its number under a transaction id, so whoever may still bring one up to here is in this snapshot
  insert into ledger.seal_horizon as h (last_entry_id, snapshot_xmax)
    values (coalesce((select max(e.id) from public.credit_ledger e), 0), pg_snapshot_xmax(pg_current_snapshot()))
    on conflict (only_row) do update
      set last_entry_id = excluded.last_entry_id, snapshot_xmax = excluded.snapshot_xmax
      -- keep a horizon that is waiting for an old transaction, or it would never be reached
      where h.last_entry_id <= coalesce((select max(s.last_entry_id) from ledger.seals s), 0)
         or h.snapshot_xmax > excluded.snapshot_xmax;  -- of another cluster: restored from a dump
  seal_id := v_previous.id;
  seal_hash := encode(v_previous.hash, 'hex');
end $$;
comment on function ledger.seal() is 'Seals the entries that were complete at the call before, and says how many, with the newest seal''s id and hash. Kept outside (the sweep logs it), that hash proves the whole chain.';

create function ledger.newest_seal(out seal_id bigint, out seal_hash text)
  language sql stable security definer set search_path = ''
as $$ select id, encode(hash, 'hex') from ledger.seals order by id desc limit 1 $$;
comment on function ledger.newest_seal() is 'The newest seal''s id and hash: note them where this database''s owner cannot change them.';

create function ledger.verify(p_seal_id bigint default null, p_seal_hash text default null)
  returns table (seal_id bigint, entry_id bigint, problem text)
  language plpgsql stable security definer set search_path = ''
as $$
declare
  s ledger.seals;
  v_previous bytea;
  v_after bigint;
begin
  for s in select * from ledger.seals order by id loop
    if s.hash <> ledger.batch_hash(v_previous, s.entry_ids, s.entry_hashes) then
      return query select s.id, null::bigint, 'the seal was changed';
    end if;
    if s.id = p_seal_id and p_seal_hash is distinct from encode(s.hash, 'hex') then
      return query select s.id, null::bigint, 'the seal is not the one that was noted';
    end if;
    return query
      select s.id, coalesce(sealed.id, e.id),
             case when e.id is null then 'removed' when sealed.id is null then 'inserted' else 'changed' end
        from unnest(s.entry_ids, s.entry_hashes) as sealed (id, hash)
        full join (
          select l.id, ledger.entry_hash(l) as hash from public.credit_ledger l
           where (v_after is null or l.id > v_after) and l.id <= s.last_entry_id
        ) e on e.id = sealed.id
       where e.hash is distinct from sealed.hash
       order by 2;
    v_previous := s.hash;
    v_after := s.last_entry_id;
  end loop;
  if p_seal_id is not null and not exists (select from ledger.seals where id = p_seal_id) then
    return query select p_seal_id, null::bigint, 'the seal was removed';
  end if;
end $$;
comment on function ledger.verify(bigint, text) is 'A row for each sealed entry that was changed, removed or inserted since, and for each broken seal; none when nothing was touched. With a seal''s id and hash noted elsewhere it also finds a chain that was written anew.';

revoke all on ledger.seals, ledger.seal_horizon from public, anon, authenticated, service_role, holdfast_backend;
alter table ledger.seals enable row level security;
alter table ledger.seal_horizon enable row level security;
revoke execute on function
  ledger.entry_hash(public.credit_ledger), ledger.batch_hash(bytea, bigint[], bytea[]), ledger.seal(),
  ledger.newest_seal(), ledger.verify(bigint, text)
from public, anon, authenticated, service_role;
grant execute on function ledger.seal(), ledger.newest_seal(), ledger.verify(bigint, text) to holdfast_backend;

-- migrate:down
