-- migrate:up
-- Two private schemas. `ledger` holds credits and knows nothing of media or Stripe; `backend` builds on it.
-- Neither is exposed by the Data API. Tables a frontend may read live in `public`, under row level security.

create schema ledger;
create schema backend;
comment on schema ledger is 'Credits: grants, reservations, settlement, reversal, audit. Knows nothing of media or payments.';
comment on schema backend is 'Purchases, generations and the provider''s callbacks: every write of the functions goes through here.';

revoke all on schema ledger, backend from public;

-- The login of the Lambda functions. Its password is set by the operator (docs/operations.md), never by a migration.
do $$
begin
  if not exists (select 1 from pg_roles where rolname = 'holdfast_backend') then
    create role holdfast_backend login;
  end if;
end $$;
-- a frozen sandbox must not hold a lock: statements and idle transactions end by themselves
alter role holdfast_backend set statement_timeout = '15s';
alter role holdfast_backend set lock_timeout = '10s';
alter role holdfast_backend set idle_in_transaction_session_timeout = '15s';

grant usage on schema ledger, backend to holdfast_backend;

-- PostgreSQL lets everybody execute a new function. Not ours: neither those that exist nor those to come.
alter default privileges for role postgres revoke execute on functions from public;

-- migrate:down
