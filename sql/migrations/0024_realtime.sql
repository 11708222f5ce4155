-- migrate:up
-- Live updates: what a frontend may subscribe to. Row level security decides which rows reach whom. On a database
-- without Supabase's publication there is nobody to tell.

do $$
declare
  t text;
begin
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    return;
  end if;
  foreach t in array array['alerts', 'credit_balances', 'generations'] loop
    if not exists (
      select from pg_publication_tables
       where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = t
    ) then
      execute format('alter publication supabase_realtime add table public.%I', t);
    end if;
  end loop;
end $$;

-- migrate:down
