-- Supabase's default privileges until October 2026: every new object of postgres in public is open to the API roles.
-- Migrations must be right with and without them, so the tests run under both.
alter default privileges for role postgres in schema public
  grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on sequences to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on functions to anon, authenticated, service_role;
