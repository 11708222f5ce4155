-- migrate:up
-- As in the ledger (0004), a user reads their own rows and writes none, under both of Supabase's default privileges:
-- what the API roles may do is taken away first, then granted by name.

do $$
declare
  t text;
begin
  foreach t in array array['purchases', 'generations', 'generation_events', 'assets'] loop
    execute format('alter table public.%I enable row level security', t);
    execute format('revoke all on public.%I from public, anon, authenticated, service_role, holdfast_backend', t);
    execute format('grant select on public.%I to authenticated', t);
    execute format(
      'create policy %I on public.%I for select to authenticated using (user_id = (select auth.uid()))',
      'own rows', t);
  end loop;
  foreach t in array array['stripe_events', 'dispatches', 'inbox', 'intake'] loop
    execute format('alter table backend.%I enable row level security', t);
    execute format('revoke all on backend.%I from public, anon, authenticated, service_role, holdfast_backend', t);
  end loop;
end $$;
revoke all on all sequences in schema public from anon, authenticated, service_role;

revoke execute on all functions in schema backend from public, anon, authenticated, service_role;

grant execute on function
  backend.create_purchase(uuid, text, text, text, numeric, bigint, text, integer, integer, integer),
  backend.attach_checkout_session(uuid, text),
  backend.get_checkout(uuid, text),
  backend.create_generation(
    uuid, text, text, text, text, text, jsonb, text, jsonb, numeric, integer, integer, integer, numeric, numeric
  ),
  backend.find_generation(uuid, text),
  backend.mark_submitted(uuid, text),
  backend.mark_refused(uuid, text, text),
  backend.record_callback(text, text, text, jsonb),
  backend.get_settlement(uuid),
  backend.complete_generation(uuid, jsonb, text),
  backend.get_generation(uuid, uuid),
  backend.list_generations(uuid, text, text, timestamptz, uuid, integer),
  backend.list_generation_events(uuid, uuid),
  backend.get_account(uuid),
  backend.list_ledger(uuid, bigint, integer),
  backend.create_asset(uuid, text, bigint, integer),
  backend.lend_assets(uuid, uuid[]),
  backend.list_assets(uuid, integer)
to holdfast_backend;

-- migrate:down
