-- migrate:up
-- What the functions read. holdfast_backend may touch no table, so reading is a function too.

create function backend.get_generation(p_user uuid, p_generation uuid) returns setof public.generations
  language sql stable security definer set search_path = ''
as $$ select * from public.generations where id = p_generation and user_id = p_user and removed_at is null $$;
comment on function backend.get_generation(uuid, uuid) is 'A user''s own generation; no row for anybody else''s.';

create function backend.list_generations(
  p_user uuid, p_status text, p_kind text, p_before timestamptz, p_before_id uuid, p_limit integer
) returns setof public.generations
  language sql stable security definer set search_path = ''
as $$
  select * from public.generations
   where user_id = p_user
     and removed_at is null
     and (p_status is null or status = p_status)
     and (p_kind is null or kind = p_kind)
     -- not `p_before is null or`: this form the index can seek to
     and (created_at, id)
       < (coalesce(p_before, 'infinity'), coalesce(p_before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
   order by created_at desc, id desc
   limit p_limit
$$;
comment on function backend.list_generations(uuid, text, text, timestamptz, uuid, integer) is 'A page of a user''s library, newest first, after a (created_at, id) cursor.';

create function backend.list_generation_events(p_user uuid, p_generation uuid)
  returns setof public.generation_events
  language sql stable security definer set search_path = ''
as $$
  select e.* from public.generation_events e join public.generations g on g.id = e.generation_id
   where e.generation_id = p_generation and g.user_id = p_user and g.removed_at is null
   order by e.id
$$;
comment on function backend.list_generation_events(uuid, uuid) is 'What happened to a user''s own generation, oldest first.';

create function backend.get_account(
  p_user uuid,
  out available numeric,
  out reserved numeric,
  out owed numeric,
  out grants jsonb
)
  language sql stable security definer set search_path = ''
as $$
  select
    coalesce((select b.available from public.credit_balances b where b.user_id = p_user), 0),
    coalesce((
      select sum(r.amount) from public.credit_reservations r where r.user_id = p_user and r.charged is null), 0),
    coalesce((select b.owed from public.credit_balances b where b.user_id = p_user), 0),
    coalesce((
      select jsonb_agg(jsonb_build_object(
               'source', g.source, 'amount', g.amount::text, 'remaining', g.remaining::text,
               'expires_at', case when g.expires_at < 'infinity' then g.expires_at end,
               'description', g.description, 'created_at', g.created_at)
             order by g.expires_at, g.priority, g.id)
        from public.credit_grants g where g.user_id = p_user and g.is_open), '[]')
$$;
comment on function backend.get_account(uuid) is 'A user''s balance and the grants that have something left, in spending order.';

create function backend.list_ledger(p_user uuid, p_before_id bigint, p_limit integer) returns setof public.credit_ledger
  language sql stable security definer set search_path = ''
as $$
  select * from public.credit_ledger
   where user_id = p_user and id < coalesce(p_before_id, 9223372036854775807)
   order by id desc
   limit p_limit
$$;
comment on function backend.list_ledger(uuid, bigint, integer) is 'A page of a user''s ledger entries, newest first.';

create function backend.create_asset(
  p_user uuid,
  p_content_type text,
  p_bytes bigint,
  p_per_hour integer,
  out outcome text,
  out asset_id uuid,
  out path text,
  out retry_after_seconds integer
)
  language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_free_at timestamptz;
begin
  perform pg_advisory_xact_lock(hashtextextended('asset:' || p_user::text, 0));
  select a.created_at + interval '1 hour' into v_free_at from public.assets a
   where a.user_id = p_user and a.created_at > ledger.clock() - interval '1 hour'
   order by a.created_at desc offset p_per_hour - 1 limit 1;
  if found then
    outcome := 'rate_limited';
    retry_after_seconds := greatest(1, ceil(extract(epoch from v_free_at - ledger.clock())));
    return;
  end if;
  asset_id := gen_random_uuid();
  path := p_user || '/' || asset_id || '.' || split_part(p_content_type, '/', 2);
  insert into public.assets (id, user_id, path, content_type, bytes, created_at)
    values (asset_id, p_user, path, p_content_type, p_bytes, ledger.clock());
  outcome := 'created';
end $$;
comment on function backend.create_asset(uuid, text, bigint, integer) is 'Names a place for a user''s picture. Outcomes: created, rate_limited.';

create function backend.lend_assets(p_user uuid, p_assets uuid[]) returns table (asset_id uuid, path text)
  language sql security definer set search_path = ''
as $$
  update public.assets a set last_used_at = ledger.clock()
   where a.user_id = p_user and a.id = any (p_assets) and a.removed_at is null
  returning a.id, a.path
$$;
comment on function backend.lend_assets(uuid, uuid[]) is 'Where a user''s own pictures are, which are used from now on; no row for anybody else''s, or for a removed one.';

create function backend.list_assets(p_user uuid, p_limit integer) returns setof public.assets
  language sql stable security definer set search_path = ''
as $$
  select * from public.assets where user_id = p_user and removed_at is null order by created_at desc, id desc limit p_limit
$$;
comment on function backend.list_assets(uuid, integer) is 'A user''s newest pictures.';

-- migrate:down
